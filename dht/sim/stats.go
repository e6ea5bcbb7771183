package sim

import (
	"math"
	"slices"
)

// Summary describes samples. CI is half the width of the mean's 95% confidence
// interval, from the normal distribution.
type Summary struct {
	N    int     `json:"n"`
	Mean float64 `json:"mean"`
	CI   float64 `json:"ci95"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

// summarize sorts samples and describes them in units of unit. Sorted sums do
// not depend on the order in which samples came.
func summarize(samples []int64, unit float64) Summary {
	s := Summary{N: len(samples)}
	if len(samples) == 0 {
		return s
	}
	slices.Sort(samples)
	for _, v := range samples {
		s.Mean += float64(v) / unit
	}
	s.Mean /= float64(s.N)
	ss := 0.0
	for _, v := range samples {
		d := float64(v)/unit - s.Mean
		ss += d * d
	}
	if s.N > 1 {
		s.CI = 1.96 * math.Sqrt(ss/float64(s.N-1)/float64(s.N))
	}
	at := func(q float64) float64 {
		return float64(samples[min(s.N-1, int(q*float64(s.N)))]) / unit
	}
	s.P50, s.P90, s.P99, s.Max = at(.5), at(.9), at(.99), float64(samples[s.N-1])/unit
	return s
}

// Share is k of n, with the bounds of its 95% confidence interval (Wilson).
type Share struct {
	K    int64   `json:"k"`
	N    int64   `json:"n"`
	Part float64 `json:"share"`
	Low  float64 `json:"low95"`
	High float64 `json:"high95"`
}

func share(k, n int64) Share {
	s := Share{K: k, N: n}
	if n == 0 {
		return s
	}
	const z = 1.96
	p, f := float64(k)/float64(n), float64(n)
	mid := (p + z*z/(2*f)) / (1 + z*z/f)
	half := z / (1 + z*z/f) * math.Sqrt(p*(1-p)/f+z*z/(4*f*f))
	s.Part, s.Low, s.High = p, max(0, mid-half), min(1, mid+half)
	return s
}
