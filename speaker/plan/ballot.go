package plan

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
)

// Ballot says who stands for election to own the addresses of one group.
type Ballot struct {
	cluster *Cluster
	group   Group
	// seats by Service of the group.
	seats []seat
	// address decides the election: the first of the oldest Service.
	address netip.Addr
	// candidates are names, in order. Their slice is often shared.
	candidates []string
}

// seat is what may be said of one Service without naming a node.
type seat struct {
	// layer2 and bgp tell over which protocols there is something to say.
	layer2, bgp bool
	// chances is what BGPAdvertisements say; bgpBar is why no node at all may
	// advertise the Service, "" if one might.
	chances *chances
	bgpBar  reason.Reason
	// bar is why no node at all may announce the Service, "" if one might;
	// what says more about it.
	bar  reason.Reason
	what string
	// electorate is nil when bar is set.
	electorate *electorate
}

// protocols tells which protocols are meant for a Service: those that its pool
// has advertisements of, both where the pool is not known. Layer 2 speaks for
// a Service that no advertisement is meant for.
func (c *Cluster) protocols(pool *config.Pool) (layer2, bgp bool) {
	switch {
	case c.snap == nil:
		return true, false
	case pool == nil:
		layer2, bgp = len(c.snap.L2Advertisements) > 0, len(c.snap.BGPAdvertisements) > 0
	default:
		layer2, bgp = len(pool.L2) > 0, len(pool.BGP) > 0
	}
	return layer2 || !bgp, bgp
}

// Ballot finds the candidates for a group.
func (c *Cluster) Ballot(g Group) Ballot {
	b := Ballot{cluster: c, group: g, seats: make([]seat, len(g))}
	if len(g) > 0 && len(g[0].Addresses) > 0 {
		b.address = g[0].Addresses[0]
	}
	for i := range g {
		b.seats[i] = c.seat(g[i])
	}
	if len(g) == 1 {
		b.candidates = c.candidatesFor(g[0], b.seats[0])
	} else {
		b.candidates = b.commonCandidates()
	}
	return b
}

// seat asks the questions that concern the Service alone, in order.
func (c *Cluster) seat(s Service) seat {
	pool, bar := c.poolOf(s)
	var st seat
	st.layer2, st.bgp = c.protocols(pool)
	if st.bgp {
		switch {
		case !c.synced:
			st.bgpBar = reason.Starting
		case bar != "":
			st.bgpBar = bar
		default:
			st.chances = c.chancesOf(pool, s.Service)
		}
	}
	switch {
	case !st.layer2:
		// BGP alone is meant for it: nobody stands for election.
		st.bar = reason.NoAdvertisement
	case !c.ready:
		st.bar = reason.Starting
	case bar != "":
		st.bar = bar
	default:
		var e *electorate
		e, st.bar, st.what = c.advertised(pool, s.Service)
		if st.bar == "" && !s.Endpoints.Any {
			st.bar = reason.NoEndpoints
		}
		if st.bar == "" {
			st.electorate = e
		}
	}
	return st
}

// poolOf returns the pool that says how s is announced, or why there is none.
func (c *Cluster) poolOf(s Service) (*config.Pool, reason.Reason) {
	switch {
	case s.BadIngress:
		return nil, reason.InvalidAddress
	case len(s.Addresses) == 0:
		return nil, reason.NoAddress
	case c.snap == nil:
		return nil, reason.Starting
	}
	if pool := c.snap.PoolOf(s.Addresses, s.Pool); pool != nil {
		return pool, ""
	}
	return nil, reason.AddressNotAllowed
}

// advertised returns the electorate of the advertisements that apply to s.
func (c *Cluster) advertised(pool *config.Pool, s *service.Service) (e *electorate, bar reason.Reason, what string) {
	f := familiesOf(s.Addresses)
	if e, ok := c.byPool[poolKey{pool, f}]; ok {
		return e, "", ""
	}
	var room [16]*config.L2Advertisement
	ads := room[:0]
	selective := false
	for _, ad := range pool.L2 {
		if len(ad.ServiceSelectors) > 0 {
			selective = true
			if !config.Matches(ad.ServiceSelectors, s.Labels) {
				continue
			}
			if s.AllowsSharing {
				return nil, reason.SharedWithServiceSelector, "L2Advertisement " + ad.Name
			}
		}
		ads = append(ads, ad)
	}
	if len(ads) == 0 {
		return nil, reason.NoAdvertisement, "pool " + pool.Name
	}
	e = c.electorateFor(ads, f)
	if !selective {
		c.byPool[poolKey{pool, f}] = e
	}
	return e, "", ""
}

// barred says why node i may not announce s, "" if it may.
func (c *Cluster) barred(s Service, st seat, i int) reason.Reason {
	switch {
	case st.bar != "":
		return st.bar
	case st.electorate.bars[i] != "":
		return st.electorate.bars[i]
	case s.Local && s.Endpoints.Nodes[c.nodes[i].name] == 0:
		return reason.NoLocalEndpoints
	}
	return ""
}

// candidatesFor returns the candidates for a Service that is alone.
func (c *Cluster) candidatesFor(s Service, st seat) []string {
	if st.bar != "" {
		return nil
	}
	if !s.Local {
		return st.electorate.best
	}
	var t tally
	for _, i := range st.electorate.candidates {
		if c.barred(s, st, i) == "" {
			t.add(c.nodes[i].name, 1, st.electorate.scores[i])
		}
	}
	return t.names
}

// commonCandidates returns the candidates for Services that are tied: the
// nodes that may serve most of them, so that all are served if any node can.
func (b *Ballot) commonCandidates() []string {
	scores := b.commonScores()
	if scores == nil {
		return nil
	}
	var t tally
	for i := range b.cluster.nodes {
		serves := 0
		for k := range b.group {
			if b.cluster.barred(b.group[k], b.seats[k], i) == "" {
				serves++
			}
		}
		if serves > 0 {
			t.add(b.cluster.nodes[i].name, serves, scores[i])
		}
	}
	return t.names
}

// commonScores returns the scores that the advertisements of all Services of
// the group give, each counted once; nil if none applies.
func (b *Ballot) commonScores() []int64 {
	var one *electorate
	mixed := false
	for _, st := range b.seats {
		if st.electorate == nil {
			continue
		}
		mixed = mixed || one != nil && one != st.electorate
		one = st.electorate
	}
	if one == nil || !mixed {
		if one == nil {
			return nil
		}
		return one.scores
	}
	var ads []*config.L2Advertisement
	for _, ad := range b.cluster.snap.L2Advertisements {
		for _, st := range b.seats {
			if st.electorate != nil && slices.Contains(st.electorate.ads, ad) {
				ads = append(ads, ad)
				break
			}
		}
	}
	return b.cluster.electorateFor(ads, 0).scores // they are the same for all families
}

// tally keeps the names of the best nodes: those that serve most Services and,
// among them, have the highest score.
type tally struct {
	names  []string
	serves int
	score  int64
}

func (t *tally) add(name string, serves int, score int64) {
	if len(t.names) > 0 {
		if serves < t.serves || serves == t.serves && score < t.score {
			return
		}
		if serves > t.serves || score > t.score {
			t.names = t.names[:0]
		}
	}
	t.serves, t.score = serves, score
	t.names = append(t.names, name)
}
