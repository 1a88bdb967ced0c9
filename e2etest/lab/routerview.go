package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// BGPNeighbor is a neighbour as a router sees it.
type BGPNeighbor struct {
	Addr netip.Addr
	// Host is whose address that is, a node's for example; "" if nobody's.
	Host      string
	State     string // "Established", "Active", ...
	RemoteASN uint32
	LocalASN  uint32
	RouterID  string // the neighbour's
	// Received counts the prefixes taken, by "ipv4" and "ipv6".
	Received map[string]int
	// Only FRR tells the following.
	Hold, Keepalive time.Duration // negotiated
	// Ups counts how many times the session was established, Downs how many times
	// it was lost: a test that wants a session untouched compares them.
	Ups, Downs int
	// LastReset is why the session was lost last.
	LastReset string
	// GracefulRestart is the neighbour's mode: "Restart", "Helper", "Disable".
	GracefulRestart string
	// BFD is the state of its BFD session, "" without one.
	BFD string
	// Raw is everything that FRR says of it, of "show bgp neighbors json".
	Raw json.RawMessage
}

// Up reports whether the session is established.
func (n BGPNeighbor) Up() bool { return n.State == "Established" }

// frrNeighbor is what of "show bgp neighbors json" is of use here.
type frrNeighbor struct {
	RemoteAS          uint32
	LocalAS           uint32
	BGPState          string
	RemoteRouterID    string `json:"remoteRouterId"`
	HoldMsecs         int64  `json:"bgpTimerHoldTimeMsecs"`
	KeepaliveMsecs    int64  `json:"bgpTimerKeepAliveIntervalMsecs"`
	Ups               int    `json:"connectionsEstablished"`
	Downs             int    `json:"connectionsDropped"`
	LastResetDueTo    string
	LastNotification  string `json:"lastNotificationReason"`
	AddressFamilyInfo map[string]struct {
		AcceptedPrefixCounter int
	}
	GracefulRestartInfo struct{ RemoteGrMode string }
	PeerBFDInfo         struct{ Status string }
}

// Neighbors returns all BGP neighbours that the router has now, by address. Nodes
// are among them once they have connected.
func (r *RunningRouter) Neighbors(ctx context.Context) ([]BGPNeighbor, error) {
	if r.Kind == BIRD {
		text, err := r.Birdc(ctx, "show protocols all")
		if err != nil {
			return nil, err
		}
		return r.named(parseBIRDNeighbors(text)), nil
	}
	var raw map[string]json.RawMessage
	if err := r.VtyshJSON(ctx, "show bgp neighbors json", &raw); err != nil {
		return nil, err
	}
	var out []BGPNeighbor
	for key, value := range raw {
		addr, err := netip.ParseAddr(key)
		if err != nil {
			continue // an unnumbered neighbour that has no address yet, or a remark
		}
		var n frrNeighbor
		if err := json.Unmarshal(value, &n); err != nil {
			return nil, fmt.Errorf("neighbour %s of %s: %w", key, r.Name, err)
		}
		received := map[string]int{}
		for family, info := range n.AddressFamilyInfo {
			received[strings.TrimSuffix(family, "Unicast")] = info.AcceptedPrefixCounter
		}
		out = append(out, BGPNeighbor{
			Addr: addr, State: n.BGPState, RemoteASN: n.RemoteAS, LocalASN: n.LocalAS, RouterID: n.RemoteRouterID, Received: received,
			Hold: time.Duration(n.HoldMsecs) * time.Millisecond, Keepalive: time.Duration(n.KeepaliveMsecs) * time.Millisecond,
			Ups: n.Ups, Downs: n.Downs, LastReset: strings.TrimSpace(n.LastResetDueTo + " " + n.LastNotification),
			GracefulRestart: n.GracefulRestartInfo.RemoteGrMode, BFD: n.PeerBFDInfo.Status, Raw: value,
		})
	}
	return r.named(out), nil
}

// named adds whose the addresses are, and sorts.
func (r *RunningRouter) named(list []BGPNeighbor) []BGPNeighbor {
	for i := range list {
		list[i].Host = r.hostOf(list[i].Addr)
	}
	slices.SortFunc(list, func(a, b BGPNeighbor) int { return a.Addr.Compare(b.Addr) })
	return list
}

func (r *RunningRouter) hostOf(a netip.Addr) string {
	h, _ := r.cluster.State.Layout.HostWith(a)
	return h.Name
}

// BFDPeer is a BFD session as a router sees it.
type BFDPeer struct {
	Addr   netip.Addr
	Host   string
	Status string // "up", "down", "init", "shutdown"
	// Only FRR tells the following.
	Multihop, Passive            bool
	Diagnostic, RemoteDiagnostic string
	// Receive, Transmit and Multiplier are the router's own.
	Receive, Transmit, EchoReceive, EchoTransmit time.Duration
	Multiplier                                   int
	// The remote values are what the neighbour's packets say.
	RemoteReceive, RemoteTransmit, RemoteEchoReceive time.Duration
	RemoteMultiplier                                 int
}

// frrBFDPeer is an entry of "show bfd peers json", with times in milliseconds.
type frrBFDPeer struct {
	Peer              string
	Status            string
	Multihop          bool
	Passive           bool `json:"passive-mode"`
	Diagnostic        string
	RemoteDiagnostic  string `json:"remote-diagnostic"`
	Receive           int64  `json:"receive-interval"`
	Transmit          int64  `json:"transmit-interval"`
	EchoReceive       int64  `json:"echo-receive-interval"`
	EchoTransmit      int64  `json:"echo-transmit-interval"`
	Multiplier        int    `json:"detect-multiplier"`
	RemoteReceive     int64  `json:"remote-receive-interval"`
	RemoteTransmit    int64  `json:"remote-transmit-interval"`
	RemoteEchoReceive int64  `json:"remote-echo-receive-interval"`
	RemoteMultiplier  int    `json:"remote-detect-multiplier"`
}

// BFDPeers returns all BFD sessions of the router, by address.
func (r *RunningRouter) BFDPeers(ctx context.Context) ([]BFDPeer, error) {
	var out []BFDPeer
	if r.Kind == BIRD {
		text, err := r.Birdc(ctx, "show bfd sessions")
		if err != nil {
			return nil, err
		}
		out = parseBIRDSessions(text)
	} else {
		var raw []frrBFDPeer
		if err := r.VtyshJSON(ctx, "show bfd peers json", &raw); err != nil {
			return nil, err
		}
		ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
		for _, p := range raw {
			addr, err := netip.ParseAddr(p.Peer)
			if err != nil {
				return nil, fmt.Errorf("BFD peers of %s: %w", r.Name, err)
			}
			out = append(out, BFDPeer{
				Addr: addr, Status: p.Status, Multihop: p.Multihop, Passive: p.Passive,
				Diagnostic: p.Diagnostic, RemoteDiagnostic: p.RemoteDiagnostic,
				Receive: ms(p.Receive), Transmit: ms(p.Transmit), EchoReceive: ms(p.EchoReceive), EchoTransmit: ms(p.EchoTransmit),
				Multiplier: p.Multiplier, RemoteReceive: ms(p.RemoteReceive), RemoteTransmit: ms(p.RemoteTransmit),
				RemoteEchoReceive: ms(p.RemoteEchoReceive), RemoteMultiplier: p.RemoteMultiplier,
			})
		}
	}
	for i := range out {
		out[i].Host = r.hostOf(out[i].Addr)
	}
	slices.SortFunc(out, func(a, b BFDPeer) int { return a.Addr.Compare(b.Addr) })
	return out, nil
}

// BGPPath is one path of a prefix in a router's BGP table.
type BGPPath struct {
	// From is the neighbour that announced it, Host whose address that is.
	From netip.Addr
	Host string
	// NextHops are its next hops; of two for one path, a global and a link-local
	// one, both.
	NextHops []netip.Addr
	ASPath   string // "64500 64500"
	Origin   string
	// MED and LocalPref are nil where the path has none.
	MED, LocalPref *uint32
	// Communities as FRR writes them: "64500:7", "no-export"; "RT:64500:5",
	// "LB:64500:125000 (1.000 Mbps)".
	Communities, Large, Extended []string
	// Best is the path chosen, Multipath one that is used beside it.
	Best, Multipath bool
	// Stale paths are kept for a neighbour that restarts gracefully.
	Stale bool
	// Raw is everything that FRR says of it.
	Raw json.RawMessage
}

// frrPath is what of "show bgp ... json" is of use here.
type frrPath struct {
	ASPath            struct{ String string }
	Origin            string
	Metric            *uint32
	LocPrf            *uint32
	Multipath         bool
	Stale             bool
	Bestpath          struct{ Overall bool }
	Community         struct{ String string }
	LargeCommunity    struct{ String string }
	ExtendedCommunity struct{ String string }
	NextHops          []struct{ IP string }
	Peer              struct{ PeerID string }
}

// Paths returns all paths that an FRR router has for exactly this prefix, by the
// address of who announced them; none if it has no such route. Of BIRD ask Routes,
// or birdc.
func (r *RunningRouter) Paths(ctx context.Context, prefix netip.Prefix) ([]BGPPath, error) {
	family := "ipv4"
	if prefix.Addr().Is6() {
		family = "ipv6"
	}
	var table struct {
		Prefix string
		Paths  []json.RawMessage
	}
	if err := r.VtyshJSON(ctx, "show bgp "+family+" unicast "+prefix.String()+" json", &table); err != nil {
		return nil, err
	}
	if table.Prefix != prefix.String() {
		return nil, nil
	}
	var out []BGPPath
	for _, raw := range table.Paths {
		p, err := parsePath(raw)
		if err != nil {
			return nil, fmt.Errorf("paths of %s for %s: %w", r.Name, prefix, err)
		}
		p.Host = r.hostOf(p.From)
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b BGPPath) int { return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.ASPath, b.ASPath)) })
	return out, nil
}

func parsePath(raw json.RawMessage) (BGPPath, error) {
	var p frrPath
	if err := json.Unmarshal(raw, &p); err != nil {
		return BGPPath{}, err
	}
	out := BGPPath{
		ASPath: p.ASPath.String, Origin: p.Origin, MED: p.Metric, LocalPref: p.LocPrf,
		Communities: strings.Fields(p.Community.String), Large: strings.Fields(p.LargeCommunity.String),
		Extended: splitExtended(p.ExtendedCommunity.String),
		Best:     p.Bestpath.Overall, Multipath: p.Multipath, Stale: p.Stale, Raw: raw,
	}
	out.From, _ = netip.ParseAddr(p.Peer.PeerID) // what the router announces itself has none
	for _, hop := range p.NextHops {
		a, err := netip.ParseAddr(hop.IP)
		if err != nil {
			return out, err
		}
		out.NextHops = append(out.NextHops, a)
	}
	return out, nil
}

// splitExtended splits a list of extended communities, whose remarks in
// parentheses have spaces: "LB:64500:125000 (1.000 Mbps) RT:1:2".
func splitExtended(text string) []string {
	var out []string
	depth := 0
	for word := range strings.FieldsSeq(text) {
		if depth > 0 || strings.HasPrefix(word, "(") {
			if len(out) > 0 {
				out[len(out)-1] += " " + word
			}
			depth += strings.Count(word, "(") - strings.Count(word, ")")
			continue
		}
		out = append(out, word)
	}
	return out
}

// parseBIRDNeighbors reads "show protocols all".
func parseBIRDNeighbors(text string) []BGPNeighbor {
	var out []BGPNeighbor
	family := ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		last := words[len(words)-1]
		key := strings.Join(words[:len(words)-1], " ")
		if key == "BGP state:" {
			out = append(out, BGPNeighbor{State: last, Received: map[string]int{}})
			continue
		}
		if len(out) == 0 {
			continue
		}
		n := &out[len(out)-1]
		switch {
		case key == "Neighbor address:":
			n.Addr, _ = netip.ParseAddr(strings.Split(last, "%")[0]) // a range stands there for listeners
		case key == "Neighbor AS:":
			fmt.Sscan(last, &n.RemoteASN)
		case key == "Local AS:":
			fmt.Sscan(last, &n.LocalASN)
		case key == "Neighbor ID:":
			n.RouterID = last
		case words[0] == "Channel":
			family = last
		case words[0] == "Routes:" && len(words) > 1:
			count := 0
			fmt.Sscan(words[1], &count)
			n.Received[family] = count
		}
	}
	return slices.DeleteFunc(out, func(n BGPNeighbor) bool { return !n.Addr.IsValid() })
}

// parseBIRDSessions reads "show bfd sessions".
func parseBIRDSessions(text string) []BFDPeer {
	var out []BFDPeer
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 3 {
			continue
		}
		if addr, err := netip.ParseAddr(words[0]); err == nil {
			out = append(out, BFDPeer{Addr: addr, Status: strings.ToLower(words[2])})
		}
	}
	return out
}
