package sim

import "runtime/metrics"

// pages follows how much memory the process has, to ask for large pages when there is more.
type pages struct{ mapped uint64 }

// worth is how much more makes it worth while to ask.
const worth = 64 << 20

// look asks for large pages if there is more memory than when it last did so.
func (p *pages) look() {
	all := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(all)
	if m := all[0].Value.Uint64() - all[1].Value.Uint64(); m > p.mapped+worth {
		p.mapped = m
		largePages()
	}
}
