package membership

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/speaker/observed"
)

// cluster is a set of speakers on loopback addresses, with what the API would
// list.
type cluster struct {
	t    *testing.T
	net  [2]byte
	port int

	mu     sync.Mutex
	peers  []Peer
	err    error
	secret map[string]string
}

// speaker is one running Ring.
type speaker struct {
	*Ring
	c      *cluster
	cancel context.CancelFunc
	ended  chan struct{}
	logs   *logs
	reg    *prometheus.Registry
}

func newCluster(t *testing.T) *cluster {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return &cluster{
		t: t, port: port, secret: map[string]string{},
		net: [2]byte{byte(1 + rand.IntN(250)), byte(rand.IntN(250))},
	}
}

func (c *cluster) addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, c.net[0], c.net[1], byte(i + 1)})
}

func name(i int) string { return fmt.Sprintf("node-%03d", i) }

// list makes the API list the nodes of these numbers.
func (c *cluster) list(is ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peers = nil
	for _, i := range is {
		c.peers = append(c.peers, Peer{Node: name(i), Addr: c.addr(i)})
	}
}

func (c *cluster) setSecret(text string, is ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range is {
		c.secret[name(i)] = text
	}
}

// start runs node i. The stretching of the key is left out: dozens of rings
// start here. change may adjust the Ring before it runs.
func (c *cluster) start(i int, change ...func(*Ring)) *speaker {
	c.t.Helper()
	s := &speaker{c: c, logs: &logs{}, ended: make(chan struct{}), reg: prometheus.NewPedanticRegistry()}
	r, err := New(Config{
		Node: name(i), Bind: c.addr(i), Port: c.port,
		Secret: func() (string, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if text, ok := c.secret[name(i)]; ok && text != "" {
				return text, nil
			} else if ok {
				return "", errNoSecret
			}
			return "the same for all", nil
		},
		Peers: func(context.Context) ([]Peer, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return slices.Clone(c.peers), c.err
		},
		Grace:   500 * time.Millisecond,
		Logger:  slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: s.reg,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	r.derive = func(text string) (key, error) {
		sum := sha256.Sum256([]byte(text))
		return newKey(sum[:]), nil
	}
	r.secretEvery = 50 * time.Millisecond
	for _, f := range change {
		f(r)
	}
	s.Ring = r
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.ended)
		if err := r.Run(ctx); err != nil {
			c.t.Errorf("Run: %v", err)
		}
	}()
	c.t.Cleanup(s.stop)
	return s
}

func (c *cluster) startAll(n int) []*speaker {
	var is []int
	for i := range n {
		is = append(is, i)
	}
	c.list(is...)
	var all []*speaker
	for _, i := range is {
		all = append(all, c.start(i))
	}
	return all
}

func (s *speaker) stop() {
	s.cancel()
	<-s.ended
}

// crash stops the node without a farewell.
func (s *speaker) crash() {
	s.mu.Lock()
	list := s.list
	s.mu.Unlock()
	_ = list.Shutdown()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.self.Phase = observed.Restarting // no farewell when the test ends
}

// logs collects what a ring logs.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// eventually polls until ok, and fails after a bound that no sound run meets.
func eventually(t *testing.T, what string, ok func() bool, show ...*speaker) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			for _, s := range show {
				t.Logf("%s: %+v\n%s", s.cfg.Node, s.Members(), s.logs)
			}
			t.Fatalf("not within 30 s: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// sees is true if the ring is settled and holds exactly these nodes, each with
// its state known.
func (s *speaker) sees(is ...int) bool {
	m := s.Members()
	if !m.Settled || len(m.Members) != len(is) {
		return false
	}
	for k, i := range is {
		if m.Members[k].Node != name(i) || !m.Members[k].Known {
			return false
		}
	}
	return true
}

func (s *speaker) member(i int) observed.Member {
	for _, m := range s.Members().Members {
		if m.Node == name(i) {
			return m
		}
	}
	return observed.Member{}
}

func eth(prefixes ...netip.Prefix) []observed.Interface {
	return []observed.Interface{{Name: "eth0", Prefixes: prefixes, Carrier: true}}
}

func TestSpeakersFindEachOtherAndShareTheirState(t *testing.T) {
	c := newCluster(t)
	all := c.startAll(3)
	for i, s := range all {
		s.SetInterfaces(eth(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 24)))
		s.SetPhase(observed.Ready)
	}
	for _, s := range all {
		eventually(t, "all three see all three, ready, with their interfaces", func() bool {
			if !s.sees(0, 1, 2) {
				return false
			}
			for i, m := range s.Members().Members {
				want := eth(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 24))
				if m.Phase != observed.Ready || !cmp.Equal(want, m.Interfaces, comparable) {
					return false
				}
			}
			return true
		}, all...)
		if m := s.Members(); !m.Enabled || m.Waiting != "" {
			t.Errorf("%+v", m)
		}
	}
	all[1].SetInterfaces(nil)
	eventually(t, "an interface that goes away goes away everywhere", func() bool {
		return len(all[0].member(1).Interfaces) == 0 && len(all[2].member(1).Interfaces) == 0
	}, all...)
}

func TestALoneNodeServesAtOnce(t *testing.T) {
	c := newCluster(t)
	c.list(0)
	s := c.start(0, func(r *Ring) { r.timing.grace = time.Hour })
	eventually(t, "settled without the grace", func() bool { return s.Members().Settled }, s)
}

func TestANodeThatCannotReachItsPeersServesAfterTheGrace(t *testing.T) {
	c := newCluster(t)
	c.list(0, 1)
	s := c.start(0)
	eventually(t, "it waits and says for what", func() bool {
		return strings.Contains(s.Members().Waiting, "None of 1 other speakers")
	}, s)
	s.SetInterfaces(nil)
	eventually(t, "settled alone", func() bool { return s.sees(0) }, s)
	late := c.start(1)
	late.SetInterfaces(nil)
	eventually(t, "joined when the other appears", func() bool { return s.sees(0, 1) && late.sees(0, 1) }, s, late)
}

func TestAPeerWithoutAnAddressIsWaitedFor(t *testing.T) {
	c := newCluster(t)
	c.mu.Lock()
	c.peers = []Peer{{Node: name(0), Addr: c.addr(0)}, {Node: name(1)}}
	c.mu.Unlock()
	a := c.start(0, func(r *Ring) { r.timing.grace = time.Hour })
	b := c.start(1, func(r *Ring) {
		r.timing.grace = time.Hour
		r.cfg.Peers = func(context.Context) ([]Peer, error) { return nil, errors.New("the API is away") }
	})
	eventually(t, "both wait, each for its reason", func() bool {
		return strings.Contains(a.Members().Waiting, "None of 1") && strings.Contains(b.Members().Waiting, "the API is away")
	}, a, b)
	c.list(0, 1)
	a.SetInterfaces(nil)
	b.SetInterfaces(nil)
	eventually(t, "joined once it has one", func() bool { return a.sees(0, 1) }, a, b)
}

func TestALeaveIsSeenAndAReturnToo(t *testing.T) {
	c := newCluster(t)
	all := c.startAll(3)
	for _, s := range all {
		s.SetInterfaces(nil)
		s.SetPhase(observed.Ready)
	}
	eventually(t, "all see all", func() bool { return all[0].sees(0, 1, 2) && all[1].sees(0, 1, 2) && all[2].sees(0, 1, 2) }, all...)
	all[2].SetPhase(observed.Draining)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := all[2].Flush(ctx); err != nil {
		t.Errorf("Flush: %v", err)
	}
	// What was flushed has arrived: a message that is written is read in a moment.
	eventually(t, "draining is known", func() bool {
		return all[0].member(2).Phase == observed.Draining && all[1].member(2).Phase == observed.Draining
	}, all...)
	all[2].stop()
	eventually(t, "the leave is known", func() bool { return all[0].sees(0, 1) && all[1].sees(0, 1) }, all...)
	again := c.start(2)
	eventually(t, "the return is known; its state is not", func() bool {
		m := all[0].member(2)
		return m.Node != "" && m.Phase == observed.Starting && !m.Known
	}, append(all, again)...)
	again.SetInterfaces(eth())
	again.SetPhase(observed.Ready)
	eventually(t, "its state follows", func() bool {
		return all[0].sees(0, 1, 2) && all[0].member(2).Phase == observed.Ready && len(all[0].member(2).Interfaces) == 1
	}, append(all, again)...)
}

func TestACrashIsDetected(t *testing.T) {
	c := newCluster(t)
	all := c.startAll(3)
	for _, s := range all {
		s.SetInterfaces(nil)
	}
	eventually(t, "all see all", func() bool { return all[0].sees(0, 1, 2) && all[1].sees(0, 1, 2) }, all...)
	start := time.Now()
	all[2].crash()
	eventually(t, "the crash is known", func() bool { return all[0].sees(0, 1) && all[1].sees(0, 1) }, all...)
	t.Logf("detected by both after %d ms", time.Since(start).Milliseconds())
}

func TestARestartedProcessIsNotTakenForTheOldOne(t *testing.T) {
	c := newCluster(t)
	all := c.startAll(2)
	all[0].SetInterfaces(nil)
	all[1].SetInterfaces(eth())
	all[1].SetPhase(observed.Ready)
	eventually(t, "known and ready", func() bool { return all[0].sees(0, 1) && all[0].member(1).Phase == observed.Ready }, all...)
	all[1].crash()
	all[1].stop()
	// The clock went back over the restart, and nobody has noticed the crash.
	again := c.start(1, func(r *Ring) { r.self.Version.Epoch = 1 })
	again.SetInterfaces(eth(prefixes("192.0.2.0/24")...))
	eventually(t, "the new state wins though its clock is behind", func() bool {
		m := all[0].member(1)
		return m.Known && m.Phase == observed.Starting && len(m.Interfaces) == 1 && len(m.Interfaces[0].Prefixes) == 1
	}, all[0], again)
}

func TestWithoutAKeyNothingIsJoined(t *testing.T) {
	c := newCluster(t)
	c.setSecret("", 1)
	all := c.startAll(2)
	all[0].SetInterfaces(nil)
	all[1].SetInterfaces(nil)
	all[1].SetPhase(observed.Ready)
	eventually(t, "the node with a key serves alone, after the grace", func() bool { return all[0].sees(0) }, all...)
	m := all[1].Members()
	if m.Settled || len(m.Members) != 1 || !strings.Contains(m.Waiting, "the gossip secret is missing or empty") {
		t.Errorf("without a key: %+v", m)
	}
	if !all[1].logs.has("without its secret the gossip ring is not joined") {
		t.Errorf("no word in the log:\n%s", all[1].logs)
	}
	c.setSecret("the same for all", 1)
	eventually(t, "joined when the key appears", func() bool { return all[0].sees(0, 1) && all[1].sees(0, 1) }, all...)
}

func TestAWrongKeyKeepsOutAndHeals(t *testing.T) {
	c := newCluster(t)
	c.setSecret("another", 0)
	all := c.startAll(3)
	for _, s := range all {
		s.SetInterfaces(nil)
	}
	eventually(t, "the two with one key serve", func() bool { return all[1].sees(1, 2) && all[2].sees(1, 2) }, all...)
	eventually(t, "the third knows why it does not", func() bool {
		return strings.Contains(all[0].Members().Waiting, "another gossip key ("+name(1)+", "+name(2)+")")
	}, all...)
	eventually(t, "the others count what they cannot read", func() bool {
		return metric(t, all[1].reg, "heraldlb_membership_undecryptable_total") > 0
	}, all...)
	if !all[1].logs.has("a speaker answers under another gossip key") {
		t.Errorf("no word in the log:\n%s", all[1].logs)
	}
	if m := all[0].Members(); m.Settled || len(m.Members) != 1 {
		t.Errorf("with a wrong key: %+v", m)
	}
	c.setSecret("the same for all", 0)
	eventually(t, "healed without a restart", func() bool { return all[0].sees(0, 1, 2) && all[1].sees(0, 1, 2) }, all...)
}

// One node serves under the old key; the others come back with a new one.
func TestSpeakersThatStartWaitForOneThatServes(t *testing.T) {
	c := newCluster(t)
	c.setSecret("new", 1, 2)
	c.list(0)
	serving := c.start(0)
	eventually(t, "the first node to serve alone", func() bool { return serving.Members().Settled }, serving)
	c.list(0, 1, 2)
	c.mu.Lock()
	c.peers[0].Ready = true
	c.mu.Unlock()
	late := []*speaker{c.start(1), c.start(2)}
	for _, s := range append(late, serving) {
		s.SetInterfaces(nil)
	}
	for _, s := range late {
		eventually(t, "two that start to wait for the one that serves", func() bool {
			m := s.Members()
			return !m.Settled && len(m.Members) == 2 && strings.Contains(m.Waiting, "A speaker that serves answers under another gossip key ("+name(0)+")")
		}, late...)
	}
	c.mu.Lock()
	c.peers[0].Ready = false
	c.mu.Unlock()
	for _, s := range late {
		s.Refresh()
	}
	for _, s := range late {
		eventually(t, "the two to settle once the one serves no more", func() bool { return s.Members().Settled }, late...)
	}
}

func TestARotationLosesNobody(t *testing.T) {
	c := newCluster(t)
	all := c.startAll(3)
	for _, s := range all {
		s.SetInterfaces(nil)
	}
	eventually(t, "all see all", func() bool { return all[0].sees(0, 1, 2) && all[1].sees(0, 1, 2) && all[2].sees(0, 1, 2) }, all...)
	watch := make(chan struct{})
	lost := make(chan string, 1)
	var wg sync.WaitGroup
	for _, s := range all {
		wg.Go(func() {
			for {
				select {
				case <-watch:
					return
				case <-s.Changed():
					if !s.sees(0, 1, 2) {
						select {
						case lost <- fmt.Sprintf("%s: %+v", s.cfg.Node, s.Members()):
						default:
						}
					}
				}
			}
		})
	}
	want := func() keyID {
		k, err := all[0].derive("the new one")
		if err != nil {
			t.Fatal(err)
		}
		return k.ID
	}()
	keys := func(s *speaker) []keyID {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Clone(s.keys)
	}
	c.setSecret("the new one", 0, 1)
	eventually(t, "two accept it, and send with the old while the third does not know it", func() bool {
		return len(keys(all[0])) == 2 && len(keys(all[1])) == 2 && keys(all[0])[0] != want
	}, all...)
	c.setSecret("the new one", 2)
	eventually(t, "all have only the new key", func() bool {
		for _, s := range all {
			if got := keys(s); len(got) != 1 || got[0] != want {
				return false
			}
		}
		return true
	}, all...)
	close(watch)
	wg.Wait()
	select {
	case m := <-lost:
		t.Errorf("a member was lost on the way: %s", m)
	default:
	}
	c.setSecret("", 0)
	eventually(t, "a vanished secret is noticed", func() bool { return all[0].logs.has("the key in use stays") }, all...)
	if !all[0].sees(0, 1, 2) {
		t.Errorf("a vanished secret stopped a running ring: %+v", all[0].Members())
	}
}

func TestAStateThatIsTooLargeForGossipArrives(t *testing.T) {
	c := newCluster(t)
	all := c.startAll(2)
	all[1].SetInterfaces(nil)
	eventually(t, "joined", func() bool { return len(all[1].Members().Members) == 2 }, all...)
	var many []observed.Interface
	for i := range 500 {
		many = append(many, observed.Interface{
			Name:     fmt.Sprintf("vlan%04d", i),
			Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)},
			Carrier:  i%2 == 0,
		})
	}
	all[0].SetInterfaces(many)
	eventually(t, "500 interfaces arrive", func() bool { return cmp.Equal(many, all[1].member(0).Interfaces, comparable) }, all...)
}

func TestALostStateIsFetched(t *testing.T) {
	c := newCluster(t)
	all := c.startAll(2)
	all[0].SetInterfaces(eth())
	all[1].SetInterfaces(nil)
	eventually(t, "known", func() bool { return all[1].member(0).Known }, all...)
	all[1].mu.Lock()
	delete(all[1].states, name(0))
	all[1].refresh(time.Now())
	all[1].mu.Unlock()
	signal(all[1].joinNow)
	eventually(t, "known again", func() bool { return all[1].member(0).Known }, all...)
}

func TestGarbageOnTheWireHarmsNobody(t *testing.T) {
	c := newCluster(t)
	all := c.startAll(2)
	for _, s := range all {
		s.SetInterfaces(nil)
	}
	eventually(t, "joined", func() bool { return all[0].sees(0, 1) && all[1].sees(0, 1) }, all...)
	udp, err := net.Dial("udp", netip.AddrPortFrom(c.addr(0), uint16(c.port)).String())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close() //nolint:errcheck // the test is over by then
	for i := range 300 {
		b := make([]byte, i)
		for j := range b {
			b[j] = byte(rand.Uint32())
		}
		if i%3 == 0 && i > 0 {
			b[0] = 1 // the version of the encryption, so that decryption is tried
		}
		if _, err := udp.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "counted", func() bool { return metric(t, all[0].reg, "heraldlb_membership_undecryptable_total") > 0 }, all...)
	all[0].merge([]byte("decrypted, and still not ours"))
	if metric(t, all[0].reg, "heraldlb_membership_malformed_total") != 1 {
		t.Error("a message that is not ours was not counted")
	}
	all[1].SetPhase(observed.Ready)
	eventually(t, "the ring goes on", func() bool { return all[0].sees(0, 1) && all[0].member(1).Phase == observed.Ready }, all...)
	if n := strings.Count(all[0].logs.String(), "Decrypt packet failed"); n > logBurst+2 {
		t.Errorf("%d lines about packets of a stranger", n)
	}
}

func TestOldNewsNeverWins(t *testing.T) {
	c := newCluster(t)
	c.list(0)
	s := c.start(0)
	now := state{Node: "other", Version: version{5, 5}, Phase: observed.Ready}
	s.merge(appendMessage(nil, now))
	for _, v := range []version{{5, 4}, {4, 9}, {5, 5}} {
		s.merge(appendMessage(nil, state{Node: "other", Version: v, Phase: observed.Draining}))
	}
	s.mu.Lock()
	got := s.states["other"]
	s.mu.Unlock()
	if diff := cmp.Diff(now, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	good := Config{
		Node: "a", Bind: netip.MustParseAddr("127.0.0.1"),
		Secret: SecretIn("/nowhere"), Peers: func(context.Context) ([]Peer, error) { return nil, nil },
	}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no node name", func(c *Config) { c.Node = "" }, "node name"},
		{"no address", func(c *Config) { c.Bind = netip.Addr{} }, "no address to listen on"},
		{"every address, and none to tell", func(c *Config) { c.Bind = netip.IPv6Unspecified() }, "needs an address to tell the others"},
		{"no peers", func(c *Config) { c.Peers = nil }, "mandatory"},
		{"a port that is none", func(c *Config) { c.Port = 70000 }, "port 70000, expected 1 to 65535"},
		{"bad tuning", func(c *Config) { c.Tuning = Tuning{ProbeInterval: time.Second} }, "memberlist tuning, TCPTimeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}

func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return 0
}
