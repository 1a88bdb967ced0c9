package membership

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/memberlist"
)

// Tuning holds the numbers of the gossip protocol.
type Tuning struct {
	// ProbeInterval: each node asks one other node per interval, in a shuffled
	// round, so a dead node is first missed after about one interval whatever
	// the size of the ring.
	ProbeInterval time.Duration
	// ProbeTimeout is how long the direct answer may take before others are
	// asked to try. Twice this must fit into ProbeInterval: an indirect attempt
	// takes the same time again, and a helper whose "no answer" comes too late
	// makes the asker believe that it is itself the slow one.
	ProbeTimeout time.Duration
	// IndirectChecks is how many others are asked then.
	IndirectChecks int
	// SuspicionMult: a suspect has SuspicionMult × ProbeInterval × max(1,
	// log10 n) to refute. 3 is the least for which memberlist wants a second
	// accuser before it believes the short time.
	SuspicionMult int
	// SuspicionMaxTimeoutMult stretches that time for an accuser that finds no
	// second one, because then the accuser may be the broken part.
	SuspicionMaxTimeoutMult int
	// AwarenessMaxMultiplier is how far a node that notices its own slowness
	// stretches its probes.
	AwarenessMaxMultiplier int
	// GossipInterval and GossipNodes: how often queued news go out, and to how
	// many nodes. News reach 100 nodes in about 4 intervals.
	GossipInterval time.Duration
	GossipNodes    int
	// RetransmitMult: each piece of news is sent RetransmitMult × log10(n+1)
	// times by each node.
	RetransmitMult int
	// GossipToTheDeadTime is how long a dead node is still told that it is
	// believed dead, so that it can object.
	GossipToTheDeadTime time.Duration
	// PushPullInterval: a full exchange with one random node, the repair for
	// everything that gossip lost. Stretched by memberlist above 32 nodes.
	PushPullInterval time.Duration
	// TCPTimeout bounds one connection: dial, then exchange.
	TCPTimeout time.Duration
	// DisableTCPPings switches off the TCP attempt beside the indirect ones.
	DisableTCPPings bool
	// EnableCompression compresses with LZW. Messages here are small, and the
	// compressor's tables cost more than the bytes that it saves.
	EnableCompression  bool
	HandoffQueueDepth  int
	UDPBufferSize      int
	QueueCheckInterval time.Duration
}

// LAN is the default profile. A dead node is missed within 0.2 s typically and
// 0.6 s at most with 3 nodes (a node can stand last in one round and first in
// none), believed missing 0.2 s later, and declared dead after the 0.6 s in
// which it could have objected: about one second in all. With 100 nodes the
// last part is 1.2 s, because a suspicion and its refutation need that many
// more hops. A node that is only busy has 80 ms for the direct answer, 200 ms
// for the indirect and the TCP attempts, and 600 ms more to object.
func LAN() Tuning {
	return Tuning{
		ProbeInterval:           200 * time.Millisecond,
		ProbeTimeout:            80 * time.Millisecond,
		IndirectChecks:          3,
		SuspicionMult:           3,
		SuspicionMaxTimeoutMult: 4,
		AwarenessMaxMultiplier:  4,
		GossipInterval:          50 * time.Millisecond,
		GossipNodes:             3,
		RetransmitMult:          4,
		GossipToTheDeadTime:     30 * time.Second,
		PushPullInterval:        15 * time.Second,
		TCPTimeout:              2 * time.Second,
		HandoffQueueDepth:       1024,
		UDPBufferSize:           1400,
		QueueCheckInterval:      30 * time.Second,
	}
}

// WAN is the profile of --ml-wan-config, for nodes that are far apart:
// memberlist's own figures for such networks.
func WAN() Tuning {
	t := LAN()
	wan := memberlist.DefaultWANConfig()
	t.ProbeInterval = wan.ProbeInterval
	t.ProbeTimeout = wan.ProbeTimeout
	t.SuspicionMult = wan.SuspicionMult
	t.SuspicionMaxTimeoutMult = wan.SuspicionMaxTimeoutMult
	t.AwarenessMaxMultiplier = wan.AwarenessMaxMultiplier
	t.GossipInterval = wan.GossipInterval
	t.GossipNodes = wan.GossipNodes
	t.GossipToTheDeadTime = wan.GossipToTheDeadTime
	t.PushPullInterval = wan.PushPullInterval
	t.TCPTimeout = wan.TCPTimeout
	return t
}

// tuningFile has the keys of the optional tuning file, MetalLB's names.
type tuningFile struct {
	TCPTimeout              *string
	IndirectChecks          *int
	RetransmitMult          *int
	SuspicionMult           *int
	SuspicionMaxTimeoutMult *int
	PushPullInterval        *string
	ProbeTimeout            *string
	ProbeInterval           *string
	DisableTCPPings         *bool `json:"DisableTcpPings"`
	AwarenessMaxMultiplier  *int
	GossipNodes             *int
	GossipInterval          *string
	GossipToTheDeadTime     *string
	GossipVerifyIncoming    *bool
	GossipVerifyOutgoing    *bool
	EnableCompression       *bool
	HandoffQueueDepth       *int
	UDPBufferSize           *int
	QueueCheckInterval      *string
}

// ParseTuning reads a tuning file over base: a key that is missing keeps its
// value in base. An error names the key and what was expected. The warnings
// are for keys that are understood and not obeyed.
func ParseTuning(data []byte, base Tuning) (t Tuning, warnings []string, err error) {
	var f tuningFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return base, nil, fmt.Errorf("parse the memberlist tuning: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return base, nil, errors.New("parse the memberlist tuning: expected one JSON object and nothing after it")
	}
	t = base
	durations := []struct {
		key  string
		from *string
		to   *time.Duration
	}{
		{"TCPTimeout", f.TCPTimeout, &t.TCPTimeout},
		{"PushPullInterval", f.PushPullInterval, &t.PushPullInterval},
		{"ProbeTimeout", f.ProbeTimeout, &t.ProbeTimeout},
		{"ProbeInterval", f.ProbeInterval, &t.ProbeInterval},
		{"GossipInterval", f.GossipInterval, &t.GossipInterval},
		{"GossipToTheDeadTime", f.GossipToTheDeadTime, &t.GossipToTheDeadTime},
		{"QueueCheckInterval", f.QueueCheckInterval, &t.QueueCheckInterval},
	}
	for _, k := range durations {
		if k.from == nil {
			continue
		}
		if *k.to, err = time.ParseDuration(*k.from); err != nil {
			return base, nil, fmt.Errorf("memberlist tuning, %s: %q is not a duration such as \"200ms\"", k.key, *k.from)
		}
	}
	set(&t.IndirectChecks, f.IndirectChecks)
	set(&t.RetransmitMult, f.RetransmitMult)
	set(&t.SuspicionMult, f.SuspicionMult)
	set(&t.SuspicionMaxTimeoutMult, f.SuspicionMaxTimeoutMult)
	set(&t.AwarenessMaxMultiplier, f.AwarenessMaxMultiplier)
	set(&t.GossipNodes, f.GossipNodes)
	set(&t.HandoffQueueDepth, f.HandoffQueueDepth)
	set(&t.UDPBufferSize, f.UDPBufferSize)
	set(&t.DisableTCPPings, f.DisableTCPPings)
	set(&t.EnableCompression, f.EnableCompression)
	if isFalse(f.GossipVerifyIncoming) || isFalse(f.GossipVerifyOutgoing) {
		warnings = append(warnings, "memberlist tuning, GossipVerifyIncoming and GossipVerifyOutgoing: false is not obeyed, the ring is always encrypted")
	}
	if err := t.validate(); err != nil {
		return base, nil, err
	}
	return t, warnings, nil
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func isFalse(b *bool) bool { return b != nil && !*b }

// validate refuses numbers with which memberlist would misbehave.
func (t Tuning) validate() error {
	for _, k := range []struct {
		key   string
		value time.Duration
	}{
		{"TCPTimeout", t.TCPTimeout},
		{"PushPullInterval", t.PushPullInterval},
		{"ProbeTimeout", t.ProbeTimeout},
		{"ProbeInterval", t.ProbeInterval},
		{"GossipInterval", t.GossipInterval},
		{"GossipToTheDeadTime", t.GossipToTheDeadTime},
		{"QueueCheckInterval", t.QueueCheckInterval},
	} {
		if k.value < time.Millisecond {
			return fmt.Errorf("memberlist tuning, %s: %s is too short, expected at least 1ms", k.key, k.value)
		}
	}
	for _, k := range []struct {
		key          string
		value, least int
	}{
		{"IndirectChecks", t.IndirectChecks, 0},
		{"RetransmitMult", t.RetransmitMult, 1},
		{"SuspicionMult", t.SuspicionMult, 1},
		{"SuspicionMaxTimeoutMult", t.SuspicionMaxTimeoutMult, 1},
		{"AwarenessMaxMultiplier", t.AwarenessMaxMultiplier, 1},
		{"GossipNodes", t.GossipNodes, 1},
		{"HandoffQueueDepth", t.HandoffQueueDepth, 16},
		{"UDPBufferSize", t.UDPBufferSize, 512},
	} {
		if k.value < k.least {
			return fmt.Errorf("memberlist tuning, %s: %d is too small, expected at least %d", k.key, k.value, k.least)
		}
	}
	if t.UDPBufferSize > 65507 {
		return fmt.Errorf("memberlist tuning, UDPBufferSize: %d does not fit into a UDP packet, expected at most 65507", t.UDPBufferSize)
	}
	if t.ProbeTimeout >= t.ProbeInterval {
		return fmt.Errorf("memberlist tuning, ProbeTimeout: %s must be shorter than ProbeInterval, which is %s", t.ProbeTimeout, t.ProbeInterval)
	}
	return nil
}

// apply writes the numbers into memberlist's own configuration.
func (t Tuning) apply(c *memberlist.Config) {
	c.TCPTimeout = t.TCPTimeout
	c.IndirectChecks = t.IndirectChecks
	c.RetransmitMult = t.RetransmitMult
	c.SuspicionMult = t.SuspicionMult
	c.SuspicionMaxTimeoutMult = t.SuspicionMaxTimeoutMult
	c.PushPullInterval = t.PushPullInterval
	c.ProbeTimeout = t.ProbeTimeout
	c.ProbeInterval = t.ProbeInterval
	c.DisableTcpPings = t.DisableTCPPings
	c.AwarenessMaxMultiplier = t.AwarenessMaxMultiplier
	c.GossipNodes = t.GossipNodes
	c.GossipInterval = t.GossipInterval
	c.GossipToTheDeadTime = t.GossipToTheDeadTime
	c.EnableCompression = t.EnableCompression
	c.HandoffQueueDepth = t.HandoffQueueDepth
	c.UDPBufferSize = t.UDPBufferSize
	c.QueueCheckInterval = t.QueueCheckInterval
	c.GossipVerifyIncoming = true
	c.GossipVerifyOutgoing = true
}
