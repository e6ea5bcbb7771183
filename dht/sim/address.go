package sim

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// Addresses are public IPv4 ones out of blocks /16, of which a few hold very many
// nodes and most hold few (Zipf), each with 64 networks /24 in use. There are as
// many blocks as ten nodes of the network need, within bounds.
const (
	leastBlocks = 200
	mostBlocks  = 4000
	blockZipf   = 0.8
	netsInBlock = 64
	netStep     = 256 / netsInBlock
)

// addresses deals out addresses.
type addresses struct {
	block  [1 << 16]int32 // number of a /16, 1 more; 0: none
	prefix []uint16       // of each block
	cum    []float64      // distribution of the blocks that nodes live in
}

// public8 are first bytes whose /8 is public as a whole.
var public8 = func() (out []byte) {
	for i := byte(1); i < 224; i++ {
		if !slices.Contains([]byte{10, 100, 127, 169, 172, 192, 198, 203}, i) {
			out = append(out, i)
		}
	}
	return out
}()

func newAddresses(r *rand.Rand, blocks int) *addresses {
	a := &addresses{}
	sum := 0.0
	for i := range blocks {
		a.addBlock(r)
		sum += math.Pow(float64(i+1), -blockZipf)
		a.cum = append(a.cum, sum)
	}
	return a
}

// addBlock takes a /16 into use and returns its number.
func (a *addresses) addBlock(r *rand.Rand) int {
	for {
		p := uint16(public8[r.IntN(len(public8))])<<8 | uint16(r.IntN(256))
		if a.block[p] != 0 {
			continue
		}
		a.prefix = append(a.prefix, p)
		a.block[p] = int32(len(a.prefix))
		return len(a.prefix) - 1
	}
}

// random is an address of any node's.
func (a *addresses) random(r *rand.Rand) netip.AddrPort {
	i, _ := slices.BinarySearch(a.cum, r.Float64()*a.cum[len(a.cum)-1])
	return a.in(i, r.IntN(netsInBlock), r)
}

// in is an address in one /24 of a block.
func (a *addresses) in(block, network int, r *rand.Rand) netip.AddrPort {
	p := a.prefix[block]
	ip := netip.AddrFrom4([4]byte{byte(p >> 8), byte(p), byte(network * netStep), byte(1 + r.IntN(254))})
	return netip.AddrPortFrom(ip, uint16(1024+r.IntN(60000)))
}
