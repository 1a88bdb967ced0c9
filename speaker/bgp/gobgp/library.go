package gobgp

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	libbgp "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/desired"
)

const (
	// primeTime bounds the library's connection to the gate; it dials after
	// 1.5 to 2 s.
	primeTime = 10 * time.Second
	// freshTime is how long a primed connection waits for its peer: after 240 s
	// without an answer to its OPEN the library gives up.
	freshTime = 200 * time.Second
	// batch is how many paths the library takes in one call: others wait for it.
	batch = 1000
	// restartTime is how long a peer keeps our routes while we restart.
	restartTime = 120 * time.Second
	// libraryHold is in the library's own OPEN and replaced on the way.
	libraryHold = 90 * time.Second
)

// A library is one embedded server, for one peer. It holds the paths that the
// peer shall have whether or not the peer is there.
type library struct {
	log *slog.Logger
	bgp *server.BgpServer
	// globals is held while a server starts, which writes variables that all
	// servers read when they choose paths; those who make them choose hold it
	// shared.
	globals *sync.RWMutex
	asn     uint32
	// established has a value when the library says that its peer is up.
	established chan struct{}
	unwatch     context.CancelFunc

	// mu guards what follows, and is held during calls of paths.
	mu     sync.Mutex
	routes desired.Routes
	loaded map[netip.Prefix]struct{}
	terms  terms
	primed bool
}

// terms are what the paths of a session depend on besides their attributes.
type terms struct {
	hops bgp.NextHops
	// external is true towards a peer of another AS.
	external bool
	// leaving marks every path for removal (RFC 8326).
	leaving bool
}

// startLibrary starts a server without a peer.
func startLibrary(log *slog.Logger, globals *sync.RWMutex, asn uint32, id netip.Addr) (*library, error) {
	globals.Lock()
	defer globals.Unlock()
	l := &library{
		log: log, globals: globals, asn: asn,
		bgp:         server.NewBgpServer(server.LoggerOption(slog.New(quiet{log.Handler()}), new(slog.LevelVar))),
		established: make(chan struct{}, 1),
		routes:      make(desired.Routes), loaded: make(map[netip.Prefix]struct{}),
	}
	go l.bgp.Serve()
	err := l.bgp.StartBgp(context.Background(), &api.StartBgpRequest{Global: &api.Global{
		Asn: asn, RouterId: id.String(),
		ListenPort: -1, // the room listens
		Families:   []uint32{0, 1},
	}})
	if err != nil {
		l.bgp.Stop()
		return nil, fmt.Errorf("start the library: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.unwatch = cancel
	err = l.bgp.WatchEvent(ctx, server.WatchEventMessageCallbacks{OnPeerUpdate: l.peerChanged}, server.WatchPeer())
	if err != nil {
		l.stop()
		return nil, fmt.Errorf("watch the library: %w", err)
	}
	return l, nil
}

// peerChanged is called by the library.
func (l *library) peerChanged(e *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
	if e.Type == apiutil.PEER_EVENT_STATE && e.Peer.State.SessionState == libbgp.BGP_FSM_ESTABLISHED {
		select {
		case l.established <- struct{}{}:
		default:
		}
	}
}

// stop ends the server and its goroutines.
func (l *library) stop() {
	l.unwatch()
	l.bgp.Stop()
}

// gateAddress is where the gate and the library meet.
var gateAddress = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// prime has the library connect to the gate and say its OPEN. The peer is added
// anew each time: a fresh one has no waits to sit out. The socket that listens
// for it is closed as soon as it came, and takes nobody else: it demands a key
// that only this process knows.
func (l *library) prime(ctx context.Context, p *api.Peer) (*primed, error) {
	ctx, cancel := context.WithTimeout(ctx, primeTime)
	defer cancel()
	secret := make([]byte, 20)
	_, _ = rand.Read(secret)
	key := hex.EncodeToString(secret)
	listener, err := listenLocal(ctx, netip.AddrPortFrom(gateAddress, 0), key)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()

	p.Conf.NeighborAddress = gateAddress.String()
	p.Conf.LocalAsn = l.asn
	if listener.secured {
		p.Conf.AuthPassword = key
	}
	p.Transport = &api.Transport{
		LocalAddress: gateAddress.String(),
		RemotePort:   uint32(listener.Addr().(*net.TCPAddr).Port),
	}
	l.unprime()
	select {
	case <-l.established: // of a session before
	default:
	}
	if err := l.bgp.AddPeer(ctx, &api.AddPeerRequest{Peer: p}); err != nil {
		return nil, fmt.Errorf("add the peer to the library: %w", err)
	}
	l.mu.Lock()
	l.primed = true
	l.mu.Unlock()
	conn, err := listener.AcceptTCP()
	if err != nil {
		return nil, fmt.Errorf("wait for the library: %w", err)
	}
	open, err := readOpen(conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &primed{conn: conn, open: open, at: time.Now()}, nil
}

// unprime removes the peer, if there is one.
func (l *library) unprime() {
	l.mu.Lock()
	was := l.primed
	l.primed = false
	l.mu.Unlock()
	if was {
		// The library may have dropped it on its own.
		_ = l.bgp.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: gateAddress.String()})
	}
}

// primed is a connection over which the library has said its OPEN.
type primed struct {
	conn *net.TCPConn
	open bgp.Open
	at   time.Time
}

// readOpen reads the library's OPEN.
func readOpen(conn net.Conn) (bgp.Open, error) {
	_ = conn.SetReadDeadline(time.Now().Add(primeTime))
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	m, err := newReader(conn).next(false)
	if err != nil {
		return bgp.Open{}, fmt.Errorf("read the library's OPEN: %w", err)
	}
	if m.kind != bgp.OpenMessage {
		return bgp.Open{}, fmt.Errorf("read the library's OPEN: it sent %s", m.kind)
	}
	open, refusal := bgp.ParseOpen(m.body)
	if refusal != nil {
		return bgp.Open{}, fmt.Errorf("read the library's OPEN: %s", refusal)
	}
	return open, nil
}

// apply changes the routes; nil attributes withdraw.
func (l *library) apply(changes map[netip.Prefix]*desired.Attributes) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, a := range changes {
		if a == nil {
			delete(l.routes, p)
		} else {
			l.routes[p] = a
		}
	}
	return l.load(maps.Keys(changes))
}

// agree sets the terms, and loads again what they change.
func (l *library) agree(t terms) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.terms
	l.terms = t
	return l.load(func(yield func(netip.Prefix) bool) {
		for p := range l.routes {
			hopChanged := t.hops.IPv4 != old.hops.IPv4
			if p.Addr().Is6() {
				hopChanged = t.hops.IPv6 != old.hops.IPv6
			}
			if (hopChanged || t.external != old.external || t.leaving != old.leaving) && !yield(p) {
				return
			}
		}
	})
}

// load brings the server's paths of some prefixes to what the routes say; mu is
// held.
func (l *library) load(prefixes func(func(netip.Prefix) bool)) error {
	var add, del []*apiutil.Path
	var errs []error
	attributes := make(map[*desired.Attributes]*[2][]libbgp.PathAttributeInterface)
	flush := func(least int) {
		if len(add) > least {
			_, err := l.bgp.AddPath(apiutil.AddPathRequest{Paths: add})
			errs, add = append(errs, err), nil
		}
		if len(del) > least {
			errs, del = append(errs, l.bgp.DeletePath(apiutil.DeletePathRequest{Paths: del})), nil
		}
	}
	l.globals.RLock()
	defer l.globals.RUnlock()
	for p := range prefixes {
		nlri, err := libbgp.NewIPAddrPrefix(p)
		if err != nil {
			errs = append(errs, fmt.Errorf("prefix %s: %w", p, err))
			continue
		}
		family, hop := libbgp.RF_IPv4_UC, l.terms.hops.IPv4
		if p.Addr().Is6() {
			family, hop = libbgp.RF_IPv6_UC, l.terms.hops.IPv6
		}
		path := &apiutil.Path{Family: family, Nlri: nlri, Age: time.Now().Unix()}
		a := l.routes[p]
		_, had := l.loaded[p]
		switch {
		case a != nil && hop.IsValid():
			path.Attrs = l.attributes(attributes, a, family, nlri, hop)
			add = append(add, path)
			l.loaded[p] = struct{}{}
		case had:
			path.Withdrawal = true
			del = append(del, path)
			delete(l.loaded, p)
		}
		flush(batch)
	}
	flush(0)
	return errors.Join(errs...)
}

// attributes are those of one path; what does not depend on the prefix is made
// once in a call of load.
func (l *library) attributes(made map[*desired.Attributes]*[2][]libbgp.PathAttributeInterface, a *desired.Attributes,
	family libbgp.Family, nlri libbgp.NLRI, hop netip.Addr) []libbgp.PathAttributeInterface {
	shared := made[a]
	if shared == nil {
		shared = new([2][]libbgp.PathAttributeInterface)
		made[a] = shared
		shared[0] = pathAttributes(bgp.OnTheWire(a, l.asn, l.terms.external, l.terms.leaving))
	}
	attrs := slices.Clip(shared[0])
	if family == libbgp.RF_IPv4_UC && hop.Is4() {
		next, _ := libbgp.NewPathAttributeNextHop(hop)
		return append(attrs, next)
	}
	reach, _ := libbgp.NewPathAttributeMpReachNLRI(family, []libbgp.PathNLRI{{NLRI: nlri}}, hop)
	return append(attrs, reach)
}

// pathAttributes are the library's words for attributes.
func pathAttributes(w bgp.Wire) []libbgp.PathAttributeInterface {
	attrs := []libbgp.PathAttributeInterface{libbgp.NewPathAttributeOrigin(libbgp.BGP_ORIGIN_ATTR_TYPE_IGP)}
	if len(w.Prepend) > 0 {
		attrs = append(attrs, libbgp.NewPathAttributeAsPath([]libbgp.AsPathParamInterface{
			libbgp.NewAs4PathParam(libbgp.BGP_ASPATH_ATTR_TYPE_SEQ, w.Prepend)}))
	}
	if w.MED != nil {
		attrs = append(attrs, libbgp.NewPathAttributeMultiExitDisc(*w.MED))
	}
	if w.LocalPref != nil {
		attrs = append(attrs, libbgp.NewPathAttributeLocalPref(*w.LocalPref))
	}
	if len(w.Standard) > 0 {
		attrs = append(attrs, libbgp.NewPathAttributeCommunities(w.Standard))
	}
	if len(w.Extended) > 0 {
		var list []libbgp.ExtendedCommunityInterface
		for _, c := range w.Extended {
			list = append(list, libbgp.NewUnknownExtended(libbgp.ExtendedCommunityAttrType(c[0]), c[1:]))
		}
		attrs = append(attrs, libbgp.NewPathAttributeExtendedCommunities(list))
	}
	if len(w.Large) > 0 {
		var list []*libbgp.LargeCommunity
		for _, c := range w.Large {
			list = append(list, libbgp.NewLargeCommunity(c[0], c[1], c[2]))
		}
		attrs = append(attrs, libbgp.NewPathAttributeLargeCommunities(list))
	}
	return attrs
}
