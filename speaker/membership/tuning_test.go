package membership

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseTuning(t *testing.T) {
	for _, tt := range []struct {
		name   string
		in     string
		change func(*Tuning)
		warns  string
		err    string
	}{
		{"nothing set", `{}`, func(*Tuning) {}, "", ""},
		{"a missing key keeps its default", `{"ProbeInterval": "1s", "GossipNodes": 5}`, func(t *Tuning) { t.ProbeInterval, t.GossipNodes = time.Second, 5 }, "", ""},
		{"MetalLB's spelling", `{"DisableTcpPings": true, "UDPBufferSize": 9000}`, func(t *Tuning) { t.DisableTCPPings, t.UDPBufferSize = true, 9000 }, "", ""},
		{"every key", `{"TCPTimeout":"10s","IndirectChecks":3,"RetransmitMult":4,"SuspicionMult":4,"SuspicionMaxTimeoutMult":6,"PushPullInterval":"30s","ProbeTimeout":"500ms","ProbeInterval":"1s","DisableTcpPings":false,"AwarenessMaxMultiplier":8,"GossipNodes":3,"GossipInterval":"200ms","GossipToTheDeadTime":"30s","GossipVerifyIncoming":true,"GossipVerifyOutgoing":true,"EnableCompression":true,"HandoffQueueDepth":1024,"UDPBufferSize":1400,"QueueCheckInterval":"30s"}`,
			func(t *Tuning) {
				*t = Tuning{TCPTimeout: 10 * time.Second, IndirectChecks: 3, RetransmitMult: 4, SuspicionMult: 4, SuspicionMaxTimeoutMult: 6,
					PushPullInterval: 30 * time.Second, ProbeTimeout: 500 * time.Millisecond, ProbeInterval: time.Second, AwarenessMaxMultiplier: 8,
					GossipNodes: 3, GossipInterval: 200 * time.Millisecond, GossipToTheDeadTime: 30 * time.Second, EnableCompression: true,
					HandoffQueueDepth: 1024, UDPBufferSize: 1400, QueueCheckInterval: 30 * time.Second}
			}, "", ""},
		{"encryption cannot be relaxed", `{"GossipVerifyIncoming": false}`, func(*Tuning) {}, "always encrypted", ""},
		{"not JSON", `ProbeInterval: 1s`, nil, "", "parse the memberlist tuning"},
		{"a second object", `{}{}`, nil, "", "one JSON object"},
		{"an unknown key", `{"ProbeIntervall": "1s"}`, nil, "", `unknown field "ProbeIntervall"`},
		{"a duration without a unit", `{"ProbeInterval": "100"}`, nil, "", `ProbeInterval: "100" is not a duration`},
		{"a duration as a number", `{"ProbeInterval": 100}`, nil, "", "ProbeInterval"},
		{"a negative duration", `{"TCPTimeout": "-1s"}`, nil, "", "TCPTimeout: -1s is too short"},
		{"no nodes to gossip with", `{"GossipNodes": 0}`, nil, "", "GossipNodes: 0 is too small, expected at least 1"},
		{"a probe that outlasts its interval", `{"ProbeTimeout": "1s"}`, nil, "", "ProbeTimeout: 1s must be shorter than ProbeInterval"},
		{"packets that UDP cannot carry", `{"UDPBufferSize": 70000}`, nil, "", "at most 65507"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, warns, err := ParseTuning([]byte(tt.in), LAN())
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				if got != LAN() {
					t.Error("a bad file changed something")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := LAN()
			tt.change(&want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if w := strings.Join(warns, " "); !strings.Contains(w, tt.warns) || tt.warns == "" && w != "" {
				t.Errorf("warnings %q, want %q", w, tt.warns)
			}
		})
	}
}

func TestTheProfilesAreSound(t *testing.T) {
	for name, p := range map[string]Tuning{"LAN": LAN(), "WAN": WAN()} {
		if err := p.validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l := LAN(); 2*l.ProbeTimeout >= l.ProbeInterval {
		t.Error("LAN: an indirect answer comes too late")
	}
}

func FuzzParseTuning(f *testing.F) {
	f.Add([]byte(`{"ProbeInterval":"1s","GossipNodes":3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _, err := ParseTuning(b, LAN())
		if err == nil && got.validate() != nil {
			t.Errorf("accepted %q, which is not sound", b)
		}
	})
}
