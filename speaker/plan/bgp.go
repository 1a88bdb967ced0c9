package plan

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
)

// bgpRules are what the configuration says of BGP on each node, Services aside,
// and what was worked out of it.
type bgpRules struct {
	// at is the place of an advertisement in the snapshot, selected the nodes
	// that it selects.
	at       map[*config.BGPAdvertisement]int
	selected [][]bool
	// peers are, by node, those that it keeps sessions with, in name order.
	peers [][]*config.Peer
	// byPool and bySet remember chances: of pools whose advertisements apply to
	// every Service, and of sets of advertisements.
	byPool map[poolKey]*chances
	bySet  map[chancesKey]*chances
}

// chancesKey is what chances depend on.
type chancesKey struct {
	poolKey
	// deaf is true if the Service names a community that does not exist.
	deaf bool
	// ads are the places of the advertisements that match the Service.
	ads string
}

// chances are what a set of BGPAdvertisements says of each node, for Services
// of one pool with addresses of the same families. Endpoints come on top.
type chances struct {
	families families
	// bars says why a node does not advertise, "" if it may; whats says more
	// about it or, if it may and there are peers, is the whole sentence on that.
	bars  []reason.Reason
	whats []string
	// ads are, by node, those that contribute; peers are the names of those
	// that hear of them, sorted.
	ads   [][]*config.BGPAdvertisement
	peers [][]string
	// all are the advertisers of a Service that every node may serve.
	all []desired.Advertiser
	// closest is, of the nodes that are alive, the one that comes closest to
	// advertising, -1 if there is none.
	closest int
	// terms are, by node, what its peers are told of a Service that asks for
	// nothing by itself. They are made when they are asked for.
	terms map[int][]terms
}

func (c *Cluster) newBGPRules() bgpRules {
	r := bgpRules{
		at:       make(map[*config.BGPAdvertisement]int, len(c.snap.BGPAdvertisements)),
		selected: make([][]bool, len(c.snap.BGPAdvertisements)),
		peers:    make([][]*config.Peer, len(c.nodes)),
		byPool:   map[poolKey]*chances{},
		bySet:    map[chancesKey]*chances{},
	}
	if len(c.snap.BGPAdvertisements) == 0 {
		return r
	}
	for at, ad := range c.snap.BGPAdvertisements {
		r.at[ad], r.selected[at] = at, make([]bool, len(c.nodes))
		for i := range c.nodes {
			r.selected[at][i] = config.Matches(ad.NodeSelectors, c.nodes[i].labels)
		}
	}
	for i := range c.nodes {
		r.peers[i] = peersOf(c.snap, c.nodes[i].labels)
	}
	return r
}

// selects tells whether an advertisement selects node i.
func (r *bgpRules) selects(ad *config.BGPAdvertisement, i int) bool { return r.selected[r.at[ad]][i] }

// chancesOf returns the chances of a Service that has its addresses from pool.
func (c *Cluster) chancesOf(pool *config.Pool, s *service.Service) *chances {
	pk := poolKey{pool, familiesOf(s.Addresses)}
	deaf := c.namesUnknown(s)
	if ch, ok := c.bgp.byPool[pk]; ok && !deaf {
		return ch
	}
	var room [16]*config.BGPAdvertisement
	var keyRoom [64]byte
	ads, key, selective := room[:0], keyRoom[:0], false
	for _, ad := range pool.BGP {
		selective = selective || len(ad.ServiceSelectors) > 0
		if config.Matches(ad.ServiceSelectors, s.Labels) {
			ads = append(ads, ad)
			key = binary.BigEndian.AppendUint32(key, uint32(c.bgp.at[ad]))
		}
	}
	ch, ok := c.bgp.bySet[chancesKey{pk, deaf, string(key)}]
	if !ok {
		ch = c.newChances(pool, pk.families, ads, deaf)
		c.bgp.bySet[chancesKey{pk, deaf, string(key)}] = ch
	}
	if !selective && !deaf {
		c.bgp.byPool[pk] = ch
	}
	return ch
}

// namesUnknown tells whether the Service asks for a community that does not
// exist.
func (c *Cluster) namesUnknown(s *service.Service) bool {
	return slices.ContainsFunc(s.BGP.Communities, func(text string) bool {
		_, err := c.snap.Community(text)
		return err != nil
	})
}

// clash is a pair of advertisements that contradict each other wherever both
// are selected.
type clash struct {
	a, b *config.BGPAdvertisement
	what string
}

func (c *Cluster) newChances(pool *config.Pool, f families, ads []*config.BGPAdvertisement, deaf bool) *chances {
	n := len(c.nodes)
	ch := &chances{
		families: f, bars: make([]reason.Reason, n), whats: make([]string, n),
		ads: make([][]*config.BGPAdvertisement, n), peers: make([][]string, n), terms: map[int][]terms{}, closest: -1,
	}
	var clashes []clash
	for i, a := range ads {
		for _, b := range ads[i+1:] {
			if field, yes := config.Conflicts(a, b, f&ipv4 != 0, f&ipv6 != 0); yes {
				clashes = append(clashes, clash{a, b, fmt.Sprintf("BGPAdvertisements %s and %s: %s", a.Name, b.Name, field)})
			}
		}
	}
	for i := range c.nodes {
		c.judgeBGP(ch, i, pool, ads, clashes, deaf)
		if ch.bars[i] != "" {
			ch.ads[i] = nil
		} else if c.hear(ch, i); len(ch.peers[i]) > 0 && c.nodes[i].alive {
			ch.all = append(ch.all, desired.Advertiser{Node: c.nodes[i].name, Peers: ch.peers[i]})
		}
		if c.nodes[i].alive && (ch.closest < 0 || ch.progress(i) > ch.progress(ch.closest)) {
			ch.closest = i
		}
	}
	return ch
}

// progress says how far node i comes with a Service whose endpoints are no
// obstacle.
func (ch *chances) progress(i int) int {
	if ch.bars[i] == "" && len(ch.peers[i]) == 0 {
		return bgpProgress(reason.NoPeer)
	}
	return bgpProgress(ch.bars[i])
}

// judgeBGP asks, in order, what the advertisements that match the Service, and
// the node itself, have against node i.
func (c *Cluster) judgeBGP(ch *chances, i int, pool *config.Pool, ads []*config.BGPAdvertisement, clashes []clash, deaf bool) {
	var unknown []string
	matching := false
	for _, ad := range ads {
		if !c.bgp.selects(ad, i) {
			continue
		}
		matching = true
		switch {
		case len(ad.UnknownCommunities) > 0:
			unknown = append(unknown, fmt.Sprintf("BGPAdvertisement %s: %s", ad.Name, strings.Join(ad.UnknownCommunities, ", ")))
		case deaf && ad.ServiceMay.Has(config.ServiceCommunities):
			unknown = append(unknown, fmt.Sprintf("BGPAdvertisement %s, by the Service's annotation", ad.Name))
		default:
			ch.ads[i] = append(ch.ads[i], ad)
		}
	}
	at := slices.IndexFunc(clashes, func(x clash) bool { return c.bgp.selects(x.a, i) && c.bgp.selects(x.b, i) })
	switch {
	case !slices.ContainsFunc(pool.BGP, func(ad *config.BGPAdvertisement) bool { return c.bgp.selects(ad, i) }):
		ch.bars[i] = reason.NodeNotSelected
	case !matching:
		ch.bars[i], ch.whats[i] = reason.NoAdvertisement, "pool "+pool.Name
	case at >= 0:
		ch.bars[i], ch.whats[i] = reason.ConflictingAdvertisements, clashes[at].what
	case len(ch.ads[i]) == 0:
		ch.bars[i], ch.whats[i] = reason.UnknownCommunity, strings.Join(unknown, "; ")
	case c.nodes[i].unavailable:
		ch.bars[i] = reason.NodeNetworkUnavailable
	case c.nodes[i].excluded:
		ch.bars[i] = reason.NodeExcluded
	}
}

// hear fills in which peers of node i hear of the advertisements, and a
// sentence on those that do or the reason why none does.
func (c *Cluster) hear(ch *chances, i int) {
	var heard families
	var deaf []string
	for _, p := range c.bgp.peers[i] {
		if !slices.ContainsFunc(ch.ads[i], func(ad *config.BGPAdvertisement) bool { return addressed(ad, p) }) {
			continue
		}
		if carried(p)&ch.families == 0 {
			deaf = append(deaf, p.Name)
			continue
		}
		ch.peers[i] = append(ch.peers[i], p.Name)
		heard |= carried(p)
	}
	switch missing := ch.families &^ heard; {
	case len(c.bgp.peers[i]) == 0:
		ch.whats[i] = "no BGPPeer selects the node"
	case heard == 0 && len(deaf) > 0:
		ch.whats[i] = "no " + missing.String() + " to " + strings.Join(deaf, ", ")
	case heard == 0:
		var names []string
		for _, ad := range ch.ads[i] {
			names = append(names, ad.Peers...)
		}
		slices.Sort(names)
		ch.whats[i] = strings.Join(slices.Compact(names), ", ")
	case missing != 0:
		ch.whats[i] = message(reason.Advertised, strings.Join(ch.peers[i], ", ")+"; "+missing.String()+" to none")
	default:
		ch.whats[i] = message(reason.Advertised, strings.Join(ch.peers[i], ", "))
	}
}

// addressed tells whether an advertisement is for a peer.
func addressed(ad *config.BGPAdvertisement, p *config.Peer) bool {
	if len(ad.Peers) == 0 {
		return true
	}
	_, ok := slices.BinarySearch(ad.Peers, p.Name)
	return ok
}

// barredBGP says why node i does not advertise Service k, "" if it does; what
// says more about it. A node that the cluster does not have (-1) is selected
// by nothing.
func (b *Ballot) barredBGP(k, i int) (bar reason.Reason, what string) {
	s, st := b.group[k], &b.seats[k]
	switch {
	case st.bgpBar != "":
		return st.bgpBar, ""
	case i < 0:
		return reason.NodeNotSelected, ""
	case st.chances.bars[i] != "":
		return st.chances.bars[i], st.chances.whats[i]
	case !s.Endpoints.Any:
		return reason.NoEndpoints, ""
	case s.Local && s.Endpoints.Nodes[b.cluster.nodes[i].name] == 0:
		return reason.NoLocalEndpoints, ""
	case len(st.chances.peers[i]) == 0:
		return reason.NoPeer, st.chances.whats[i]
	}
	return "", ""
}

// decideBGP is the verdict over BGP on Service k for node i.
func (b *Ballot) decideBGP(k, i int, reports bool) desired.Decision {
	s := b.group[k]
	d := desired.Decision{Service: s.Key, Protocol: desired.BGP, Addresses: s.Addresses, Reports: reports}
	bar, what := b.barredBGP(k, i)
	if bar == "" {
		d.Announce, d.Reason, d.Peers = true, reason.Advertised, b.seats[k].chances.peers[i]
		d.Message = b.seats[k].chances.whats[i]
	} else {
		d.Reason, d.Message = bar, message(bar, what)
	}
	if reports {
		if d.Advertisers = b.advertisers(k); len(d.Advertisers) == 0 {
			d.Outcome = b.outcome(k)
		}
		d.Ignored = ignored(s.Service)
	}
	return d
}

// ignored says which of the BGP attributes that a Service asks for make no sense.
func ignored(s *service.Service) string {
	var all []string
	for _, p := range s.Problems {
		if p.Reason == reason.InvalidBGPAttribute {
			all = append(all, p.Message)
		}
	}
	return strings.Join(all, "; ")
}

// advertisers are the nodes that advertise Service k.
func (b *Ballot) advertisers(k int) (all []desired.Advertiser) {
	s, st := b.group[k], &b.seats[k]
	if st.bgpBar != "" || !s.Endpoints.Any {
		return nil
	}
	if !s.Local {
		return st.chances.all
	}
	for _, a := range st.chances.all {
		if s.Endpoints.Nodes[a.Node] > 0 {
			all = append(all, a)
		}
	}
	return all
}

// bgpChecks are the questions to a node over BGP, in the order in which they
// are asked.
var bgpChecks = []reason.Reason{
	reason.NodeNotSelected,
	reason.NoAdvertisement,
	reason.ConflictingAdvertisements,
	reason.UnknownCommunity,
	reason.NodeNetworkUnavailable,
	reason.NodeExcluded,
	reason.NoEndpoints,
	reason.NoLocalEndpoints,
	reason.NoPeer,
}

// bgpProgress says how many checks a node passed before bar stopped it.
func bgpProgress(bar reason.Reason) int {
	if i := slices.Index(bgpChecks, bar); i >= 0 {
		return i
	}
	return len(bgpChecks)
}

// outcome says why no node advertises Service k: what stopped the node that
// passed most checks.
func (b *Ballot) outcome(k int) desired.Outcome {
	s, st := b.group[k], &b.seats[k]
	if st.bgpBar != "" {
		return desired.Outcome{Reason: st.bgpBar, Message: message(st.bgpBar, "")}
	}
	closest := st.chances.closest
	if closest < 0 {
		return desired.Outcome{}
	}
	bar, what := b.barredBGP(k, closest)
	if s.Local && s.Endpoints.Any && st.chances.bars[closest] == "" {
		for i := range b.cluster.nodes {
			other, more := b.barredBGP(k, i)
			if b.cluster.nodes[i].alive && bgpProgress(other) > bgpProgress(bar) {
				closest, bar, what = i, other, more
			}
		}
	}
	o := desired.Outcome{Reason: bar, Message: message(bar, what)}
	if bar != reason.NoEndpoints {
		o.Message = "No node may advertise the Service. " + b.cluster.nodes[closest].name + " comes closest: " + o.Message
	}
	return o
}
