package sdk

import "testing"

// The hashes were made with hashlib in Python, from the description of DNA.Hash.
func TestDNAHash(t *testing.T) {
	t.Parallel()
	seen := map[DNAHash]DNA{}
	for _, c := range []struct {
		dna  DNA
		want string
	}{
		{DNA{Name: "auction", Integrity: "1"}, "dna1vhsgwk7wgpxh0fglpzcdewf3q8gaphzentnwpq4tpec90qduauksj0kptc"},
		{DNA{Name: "auction", Integrity: "1", NetworkSeed: "village", Properties: []byte(`{"deliberate": "5s"}`)},
			"dna1xk79e64u0n49mqy9esudny2dvxh79382ddy2z6hfxqq6lqw8q2lqqx5gtd"},
		// Fields that run together are told apart by their lengths.
		{DNA{Name: "a", Integrity: "uction1"}, "dna1s9zpxnpllm5kdq6l2en7av366vvy0tq8jcq5m5v8slszlplhnjus0sfq8y"},
	} {
		if got := c.dna.Hash().String(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.dna, got, c.want)
		}
	}
	for _, d := range []DNA{
		{}, {Name: "x"}, {Integrity: "x"}, {NetworkSeed: "x"}, {Properties: []byte("x")},
		{Name: "x", Integrity: "x"}, {Name: "xx"}, {NetworkSeed: "xx"},
	} {
		h := d.Hash()
		if other, twice := seen[h]; twice {
			t.Errorf("%+v and %+v have one hash", d, other)
		}
		seen[h] = d
	}
}
