package plantest

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
)

// gold is the one community that has a name in these worlds.
var gold = config.Community{Kind: config.LargeCommunity, Fields: [3]uint32{64512, 7, 9}}

// wishes draws what a Service asks for by annotation, mostly nothing.
func wishes(t *rapid.T) (b service.BGP) {
	if rapid.IntRange(0, 2).Draw(t, "wishes") > 0 {
		return b
	}
	b.Communities = rapid.SliceOfN(rapid.SampledFrom([]string{"gold", "64512:1", "64512:9", "lead"}), 0, 2).Draw(t, "wanted communities")
	b.LocalPref, b.MED = number(t, "wanted localPref"), number(t, "wanted med")
	if n := number(t, "wanted prepend"); n != nil {
		p := uint8(*n % 5)
		b.Prepend = &p
	}
	return b
}

func number(t *rapid.T, of string) *uint32 {
	if rapid.Bool().Draw(t, "no "+of) {
		return nil
	}
	n := uint32(rapid.IntRange(0, 2).Draw(t, of))
	return &n
}

// addBGP adds peers and BGPAdvertisements, or none.
func addBGP(t *rapid.T, s *config.Snapshot) {
	s.Communities = map[string]config.Community{"gold": gold}
	for i := range rapid.IntRange(0, 4).Draw(t, "peers") {
		s.Peers = append(s.Peers, peer(t, i))
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "BGP advertisements") {
		ad := bgpAdvertisement(t, i)
		s.BGPAdvertisements = append(s.BGPAdvertisements, ad)
		for _, p := range s.Pools {
			if rapid.IntRange(0, 3).Draw(t, "for pool") > 0 {
				p.BGP = append(p.BGP, ad)
			}
		}
	}
}

func zones(t *rapid.T, of string) []labels.Selector {
	if z := rapid.SampledFrom([]string{"", "", "", "east", "west"}).Draw(t, of); z != "" {
		return []labels.Selector{zone(z)}
	}
	return nil
}

func peer(t *rapid.T, i int) *config.Peer {
	p := &config.Peer{
		Name: fmt.Sprintf("peer-%d", i), MyASN: 64512, PeerASN: 64513,
		NodeSelectors: zones(t, "nodes of peer"), DualStack: rapid.Bool().Draw(t, "dual stack"),
	}
	switch rapid.SampledFrom([]string{"IPv4", "IPv4", "IPv6", "unnumbered", "dynamic"}).Draw(t, "kind of peer") {
	case "IPv4":
		p.Address = netip.AddrFrom4([4]byte{10, 9, 0, byte(i)})
	case "IPv6":
		p.Address = netip.MustParseAddr(fmt.Sprintf("fd09::%d", i+1))
	case "unnumbered":
		p.Interface = fmt.Sprintf("eth%d", i)
	case "dynamic":
		p.Prefix = netip.MustParsePrefix(fmt.Sprintf("10.10.%d.0/24", i))
	}
	return p
}

func bgpAdvertisement(t *rapid.T, i int) *config.BGPAdvertisement {
	ad := &config.BGPAdvertisement{
		Name:              fmt.Sprintf("bgp-%d", i),
		AggregationLength: 32, AggregationLengthV6: 128,
		LocalPref:         uint32(rapid.SampledFrom([]int{0, 0, 0, 100}).Draw(t, "localPref")),
		NodeSelectors:     zones(t, "nodes of"),
		Peers:             rapid.SampledFrom([][]string{nil, nil, {"peer-0"}, {"peer-1", "peer-9"}}).Draw(t, "peers of"),
		Prepend:           uint8(rapid.SampledFrom([]int{0, 0, 0, 2}).Draw(t, "prepend")),
		WeightByEndpoints: rapid.Bool().Draw(t, "weighs"),
		ServiceMay:        config.ServiceAttributes(rapid.IntRange(0, 15).Draw(t, "the Service may")),
	}
	if rapid.IntRange(0, 7).Draw(t, "has med") == 0 {
		ad.MED = new(uint32)
	}
	for _, c := range []config.Community{{Fields: [3]uint32{64512, 1}}, {Fields: [3]uint32{64512, 2}}, gold} {
		if rapid.IntRange(0, 2).Draw(t, "community") == 0 {
			ad.Communities = append(ad.Communities, c)
		}
	}
	slices.SortFunc(ad.Communities, config.Community.Compare)
	if rapid.IntRange(0, 7).Draw(t, "unknown community") == 0 {
		ad.UnknownCommunities = []string{"silver"}
	}
	if ad.ServiceSelectors = zones(t, "BGP services of"); ad.ServiceSelectors == nil {
		ad.AggregationLength = rapid.SampledFrom([]int{32, 32, 31, 24}).Draw(t, "aggregation length")
		ad.AggregationLengthV6 = rapid.SampledFrom([]int{128, 128, 126, 64}).Draw(t, "aggregation length v6")
	}
	return ad
}
