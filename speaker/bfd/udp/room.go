package udp

import (
	"cmp"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// Config is what a Room needs to know.
type Config struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// OnChange is called whenever Observed is different, and at times when it is
	// not, by several goroutines. It must not block, and may call Observed. May
	// be nil.
	OnChange func()
}

// Room keeps the BFD sessions of a node.
type Room struct {
	log      *slog.Logger
	onChange func()
	kernel   kernel
	metrics  *metrics

	wanted atomic.Pointer[desired.BFD]
	wake   chan struct{}
	// readers are the goroutines of open sockets; Run waits for them.
	readers sync.WaitGroup

	mu       sync.Mutex // guards all that follows, and all that it leads to
	sessions map[observed.BFDPeer]*session
	leaving  map[*session]struct{} // they tell the peer AdminDown
	byDiscr  map[uint32]*session
	byRemote map[netip.Addr][]*session
	doors    map[door]*doorway
	echoes   map[echoKey]*echoway
	timers   timers
	rng      *rand.Rand
	secret   uint64 // marks our echo packets
	epoch    time.Time
	changed  bool
	// closing are sockets to close once the lock is free: closing waits for the
	// reader, who may wait for the lock.
	closing []io.Closer
	applied *desired.BFD
	packet  bfd.Packet // of the packet at hand
	buf     []byte
}

// New returns a room without sessions. It opens nothing before Run.
func New(c Config) (*Room, error) {
	if c.Logger == nil || c.Registerer == nil {
		return nil, errors.New("the BFD room needs a logger and a metrics registry")
	}
	var seed [32]byte
	if _, err := crand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("seed the discriminators: %w", err)
	}
	r := newRoom(c, system{}, seed)
	if err := c.Registerer.Register(r.metrics); err != nil {
		return nil, fmt.Errorf("register the BFD metrics: %w", err)
	}
	return r, nil
}

func newRoom(c Config, k kernel, seed [32]byte) *Room {
	r := &Room{
		log: c.Logger, onChange: c.OnChange, kernel: k,
		wake:     make(chan struct{}, 1),
		sessions: make(map[observed.BFDPeer]*session),
		leaving:  make(map[*session]struct{}),
		byDiscr:  make(map[uint32]*session),
		byRemote: make(map[netip.Addr][]*session),
		doors:    make(map[door]*doorway),
		echoes:   make(map[echoKey]*echoway),
		rng:      rand.New(rand.NewChaCha8(seed)),
		secret:   binary.BigEndian.Uint64(seed[:]),
		epoch:    time.Now(),
		buf:      make([]byte, 0, bfd.MaxLen),
	}
	r.metrics = newMetrics(r)
	return r
}

// Set states the sessions to keep, all of them. It does not block and may be
// repeated; the map must not be changed afterwards.
func (r *Room) Set(want desired.BFD) {
	r.wanted.Store(&want)
	r.poke()
}

// poke wakes the loop.
func (r *Room) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Observed tells the state of every session that is wanted.
func (r *Room) Observed() observed.BFD {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(observed.BFD, len(r.sessions))
	for key, s := range r.sessions {
		out[key] = s.observed()
	}
	return out
}

// discriminator draws one that is not in use: "a unique, nonzero discriminator
// value" that "SHOULD" be random (RFC 5880, section 6.8.1).
func (r *Room) discriminator() uint32 {
	for {
		d := r.rng.Uint32()
		if _, used := r.byDiscr[d]; d != 0 && !used {
			return d
		}
	}
}

// label is what logs and metrics call a peer.
func label(p observed.BFDPeer) string {
	return cmp.Or(p.Remote.WithZone(p.Interface).String(), "invalid")
}
