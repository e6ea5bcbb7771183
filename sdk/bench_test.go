package sdk

import "testing"

type benchBid struct {
	To     AgentID `json:"to"`
	Item   string  `json:"item"`
	Amount uint64  `json:"amount"`
	Note   []byte  `json:"note"`
}

var benchValue = benchBid{AgentID{1}, "the black velvet painting of a clown", 50, make([]byte, 32)}

func BenchmarkMarshal(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Marshal(&benchValue); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	b.ReportAllocs()
	p, err := Marshal(&benchValue)
	if err != nil {
		b.Fatal(err)
	}
	var v benchBid
	for b.Loop() {
		v = benchBid{} // what a call's input is decoded into
		if err := Unmarshal(p, &v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckPayload(b *testing.B) {
	b.ReportAllocs()
	p, err := Marshal(&benchValue)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := checkPayload(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseAgentID(b *testing.B) {
	b.ReportAllocs()
	s := AgentID{1}.String()
	for b.Loop() {
		if _, err := ParseAgentID(s); err != nil {
			b.Fatal(err)
		}
	}
}
