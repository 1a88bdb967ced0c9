package plan_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

var update = flag.Bool("update", false, "rewrite what the stories want")

// TestStories runs testdata/*.txtar. A story is a world that changes in steps:
// each file of the archive holds objects, one document each, that are added or
// replace those of the same kind and name; the file after it, which ends in
// .want, is what every node then decides.
//
// Beside the kinds of the API there are:
//
//	kind: Members        members: {node-a: "ready eth0 eth1=down eth2=IPv4", node-b: starting}
//	kind: Gone           of: Node, name: node-a
//
// BGP is shown where there is any: behind the addresses that a node answers for,
// what it tells each peer.
//
// A member is its phase and its interfaces, which are eth0 if none is named and
// not known for "ready unknown"; eth2=IPv4 can announce that family alone. A node that is not named is not alive; without
// any Members, membership is off. A Service without EndpointSlices has an
// endpoint on every node.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := newStory()
			var told []txtar.File
			for _, f := range archive.Files {
				if want, ok := strings.CutSuffix(f.Name, ".want"); ok {
					got := s.tell(t)
					told = append(told, txtar.File{Name: f.Name, Data: []byte(got)})
					if diff := cmp.Diff(string(f.Data), got); diff != "" && !*update {
						t.Errorf("%s (-want +got):\n%s", want, diff)
					}
					continue
				}
				told = append(told, f)
				if err := s.read(f.Data); err != nil {
					t.Fatalf("%s: %v", f.Name, err)
				}
			}
			if *update {
				archive.Files = told
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// story is a world made of objects.
type story struct {
	pools    map[string]v1beta1.IPAddressPool
	ads      map[string]v1beta1.L2Advertisement
	bgp      map[string]v1beta1.BGPAdvertisement
	peers    map[string]v1beta2.BGPPeer
	names    map[string]v1beta1.Community
	nodes    map[string]corev1.Node
	services map[string]*corev1.Service
	slices   map[string]*discoveryv1.EndpointSlice
	members  observed.Members
}

func newStory() *story {
	return &story{
		pools: map[string]v1beta1.IPAddressPool{}, ads: map[string]v1beta1.L2Advertisement{},
		bgp: map[string]v1beta1.BGPAdvertisement{}, peers: map[string]v1beta2.BGPPeer{}, names: map[string]v1beta1.Community{},
		nodes: map[string]corev1.Node{}, services: map[string]*corev1.Service{}, slices: map[string]*discoveryv1.EndpointSlice{},
		members: observed.Members{Settled: true},
	}
}

// read takes in the documents of one step.
func (s *story) read(data []byte) error {
	for doc := range bytes.SplitSeq(data, []byte("\n---\n")) {
		var head struct {
			metav1.TypeMeta
			Metadata metav1.ObjectMeta
			Of, Name string
			Members  map[string]string
		}
		if err := yaml.Unmarshal(doc, &head); err != nil {
			return fmt.Errorf("%w in:\n%s", err, doc)
		}
		var err error
		switch name := head.Metadata.Name; head.Kind {
		case "IPAddressPool":
			s.pools[name], err = object[v1beta1.IPAddressPool](doc)
		case "L2Advertisement":
			s.ads[name], err = object[v1beta1.L2Advertisement](doc)
		case "BGPAdvertisement":
			s.bgp[name], err = object[v1beta1.BGPAdvertisement](doc)
		case "BGPPeer":
			s.peers[name], err = object[v1beta2.BGPPeer](doc)
		case "Community":
			s.names[name], err = object[v1beta1.Community](doc)
		case "Node":
			s.nodes[name], err = object[corev1.Node](doc)
		case "Service":
			var svc corev1.Service
			svc, err = object[corev1.Service](doc)
			svc.Namespace, svc.Spec.Type = "default", corev1.ServiceTypeLoadBalancer
			s.services[name] = &svc
		case "EndpointSlice":
			var slice discoveryv1.EndpointSlice
			slice, err = object[discoveryv1.EndpointSlice](doc)
			s.slices[name] = &slice
		case "Members":
			s.members.Enabled = true
			for node, text := range head.Members {
				s.member(node, text)
			}
		case "Gone":
			err = s.remove(head.Of, head.Name)
		default:
			err = fmt.Errorf("the kind %q is unknown", head.Kind)
		}
		if err != nil {
			return fmt.Errorf("%w in:\n%s", err, doc)
		}
	}
	return nil
}

func object[T any](doc []byte) (o T, err error) {
	return o, yaml.UnmarshalStrict(doc, &o)
}

func (s *story) remove(kind, name string) error {
	switch kind {
	case "IPAddressPool":
		delete(s.pools, name)
	case "L2Advertisement":
		delete(s.ads, name)
	case "BGPAdvertisement":
		delete(s.bgp, name)
	case "BGPPeer":
		delete(s.peers, name)
	case "Community":
		delete(s.names, name)
	case "Node":
		delete(s.nodes, name)
	case "Service":
		delete(s.services, name)
	case "EndpointSlice":
		delete(s.slices, name)
	case "Member":
		s.members.Members = slices.DeleteFunc(s.members.Members, func(m observed.Member) bool { return m.Node == name })
	default:
		return fmt.Errorf("nothing of the kind %q can be gone", kind)
	}
	return nil
}

// member reads "ready eth0 eth1=down eth2=IPv4".
func (s *story) member(node, text string) {
	words := strings.Fields(text)
	m := observed.Member{Node: node, Known: true, Phase: map[string]observed.Phase{
		"ready": observed.Ready, "starting": observed.Starting, "draining": observed.Draining, "restarting": observed.Restarting,
		"gathering": observed.Gathering,
	}[words[0]]}
	if len(words) == 1 {
		words = append(words, "eth0")
	}
	for _, w := range words[1:] {
		name, state, _ := strings.Cut(w, "=")
		if name == "unknown" {
			m.Known = false
			continue
		}
		m.Interfaces = append(m.Interfaces, observed.Interface{
			Name: name, Carrier: state != "down",
			IPv4: state == "" || state == "IPv4", IPv6: state == "" || state == "IPv6",
		})
	}
	_ = s.remove("Member", node)
	s.members.Members = append(s.members.Members, m)
}

// world compiles the objects as the speaker does.
func (s *story) world(t *testing.T) plan.World {
	objects := config.Objects{
		Pools: slices.Collect(maps.Values(s.pools)), L2Advertisements: slices.Collect(maps.Values(s.ads)),
		BGPAdvertisements: slices.Collect(maps.Values(s.bgp)), Peers: slices.Collect(maps.Values(s.peers)),
		Communities: slices.Collect(maps.Values(s.names)),
	}
	for _, n := range s.nodes {
		objects.Nodes = append(objects.Nodes, config.Node{Name: n.Name, Labels: n.Labels})
	}
	snapshot, problems := config.Compile(objects)
	for _, p := range problems {
		if p.Severity == config.Error && !strings.HasPrefix(p.Message, "unknown community") {
			t.Fatalf("the story's configuration is wrong: %+v", p)
		}
	}
	w := plan.World{Facts: plan.Facts{Ready: true, Config: snapshot, Members: s.members}}
	everywhere := service.Endpoints{Any: true, Nodes: map[string]int{}}
	for _, n := range s.nodes {
		node := observed.Node{Name: n.Name, Labels: n.Labels}
		_, node.Excluded = n.Labels[corev1.LabelNodeExcludeBalancers]
		for _, c := range n.Status.Conditions {
			node.NotReady = node.NotReady || c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue
			node.NetworkUnavailable = node.NetworkUnavailable || c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue
		}
		w.Nodes = append(w.Nodes, node)
		everywhere.Nodes[n.Name] = 1
	}
	for name, svc := range s.services {
		var own []*discoveryv1.EndpointSlice
		for _, slice := range s.slices {
			if slice.Labels[discoveryv1.LabelServiceName] == name {
				own = append(own, slice)
			}
		}
		endpoints := everywhere
		if len(own) > 0 {
			endpoints = service.MergeEndpoints(own)
		}
		w.Services = append(w.Services, plan.Service{Service: service.Parse(svc), Endpoints: endpoints})
	}
	return w
}

// tell writes what every node decides.
func (s *story) tell(t *testing.T) string {
	w := s.world(t)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		w.Self = name
		state := plan.Compute(w)
		fmt.Fprintf(&b, "%s:", name)
		for i, a := range slices.SortedFunc(maps.Keys(state.L2), func(a, b netip.Addr) int { return a.Compare(b) }) {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, " %s", a)
			if names := state.L2[a].Interfaces; names != nil {
				fmt.Fprintf(&b, " on %s", strings.Join(names, "+"))
			}
		}
		b.WriteByte('\n')
		tellRoutes(&b, state.BGP)
		for _, d := range state.Decisions {
			if d.Protocol == desired.BGP {
				tellBGP(&b, d)
				continue
			}
			fmt.Fprintf(&b, "  %s %s", d.Service.Name, d.Reason)
			if d.Owner != "" && d.Owner != name {
				fmt.Fprintf(&b, ", owner %s", d.Owner)
			}
			if d.Owner == "" && d.Reports {
				fmt.Fprintf(&b, ", reports: %s", d.Message)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// tellRoutes writes what each peer is told, a line for each prefix.
func tellRoutes(b *strings.Builder, routes desired.BGPRoutes) {
	for _, peer := range slices.Sorted(maps.Keys(routes)) {
		for _, p := range slices.SortedFunc(maps.Keys(routes[peer]), netip.Prefix.Compare) {
			a := routes[peer][p]
			fmt.Fprintf(b, "  -> %s: %s", peer, p)
			if a.LocalPref != 0 {
				fmt.Fprintf(b, " localPref %d", a.LocalPref)
			}
			if a.MED != nil {
				fmt.Fprintf(b, " med %d", *a.MED)
			}
			if a.Prepend != 0 {
				fmt.Fprintf(b, " prepend %d", a.Prepend)
			}
			if a.Weight != 0 {
				fmt.Fprintf(b, " weight %d", a.Weight)
			}
			for _, c := range a.Communities {
				fmt.Fprintf(b, " %s", c)
			}
			b.WriteByte('\n')
		}
	}
}

// tellBGP writes a decision over BGP: who hears of the Service, or what is in
// the way; and, on the node that reports, who advertises it, or why nobody does.
func tellBGP(b *strings.Builder, d desired.Decision) {
	fmt.Fprintf(b, "  %s bgp %s", d.Service.Name, d.Reason)
	if i := strings.LastIndex(d.Message, " ("); i >= 0 {
		b.WriteString(strings.TrimSuffix(d.Message[i:], "."))
	}
	if d.Reports {
		b.WriteString(", reports:")
		for i, a := range d.Advertisers {
			if i > 0 {
				b.WriteByte(';')
			}
			fmt.Fprintf(b, " %s to %s", a.Node, strings.Join(a.Peers, "+"))
		}
		if len(d.Advertisers) == 0 {
			fmt.Fprintf(b, " %s: %s", d.Outcome.Reason, d.Outcome.Message)
		}
		if d.Ignored != "" {
			fmt.Fprintf(b, "; ignores %s", d.Ignored)
		}
	}
	b.WriteByte('\n')
}
