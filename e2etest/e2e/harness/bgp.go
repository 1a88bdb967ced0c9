//go:build lab

package harness

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/heraldlb/herald/e2etest/herald"
)

// Herald's kinds for BGP, as the dynamic client calls them.
var (
	BGPPeers          = schema.GroupVersionResource{Group: "metallb.io", Version: "v1beta2", Resource: "bgppeers"}
	BGPAdvertisements = heraldKind("bgpadvertisements")
	BFDProfiles       = heraldKind("bfdprofiles")
	BGPStatuses       = heraldKind("servicebgpstatuses")
	BGPSessions       = schema.GroupVersionResource{Group: "heraldlb.io", Version: "v1alpha1", Resource: "bgpsessionstatuses"}
)

// Peer applies a BGPPeer with a spec in YAML and returns its name, which is the
// test's namespace and the given suffix.
func (h *Test) Peer(suffix, spec string) string {
	h.Helper()
	return h.heraldObject("BGPPeer", suffix, "", spec)
}

// AdvertiseBGP is Peer for a BGPAdvertisement.
func (h *Test) AdvertiseBGP(suffix, spec string) string {
	h.Helper()
	return h.heraldObject("BGPAdvertisement", suffix, "", spec)
}

// BFDProfile is Peer for a BFDProfile.
func (h *Test) BFDProfile(suffix, spec string) string {
	h.Helper()
	return h.heraldObject("BFDProfile", suffix, "", spec)
}

// Community is Peer for a Community.
func (h *Test) Community(suffix, spec string) string {
	h.Helper()
	return h.heraldObject("Community", suffix, "", spec)
}

// BGPSession is what a BGPSessionStatus says.
type BGPSession struct {
	Object, Version string
	// What follows is of the status, by its names.
	Node, Peer, PeerAddress, LocalAddress, State, Reason, Message string

	RemoteASN                             int64
	RemoteRouterID                        string
	HoldTimeSeconds, KeepaliveTimeSeconds int64
	Families                              []string
	GracefulRestart                       bool
	SentPrefixes                          struct{ IPv4, IPv6 int64 }
	ReceivedPrefixes                      int64
	LastDown                              *struct{ Time, Reason, Message string }
	BFD                                   *struct {
		State, Reason, Message                                  string
		TransmitIntervalMilliseconds, DetectionTimeMilliseconds int64
	}
}

// SessionsOf returns all BGPSessionStatus objects of a BGPPeer, by node.
func (h *Test) SessionsOf(peer string) ([]BGPSession, error) {
	list, err := h.Dynamic.Resource(BGPSessions).Namespace(herald.Namespace).List(h.Ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []BGPSession
	for _, o := range list.Items {
		var s BGPSession
		if err := statusOf(&o, &s); err != nil {
			return nil, err
		}
		if s.Object, s.Version = o.GetName(), o.GetResourceVersion(); s.Peer == peer {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b BGPSession) int { return strings.Compare(a.Node, b.Node) })
	return out, nil
}

// statusOf reads the status of an object.
func statusOf(o *unstructured.Unstructured, into any) error {
	raw, err := json.Marshal(o.Object["status"])
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		return fmt.Errorf("the status of %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}

// WaitSession waits until the BGPSessionStatus of a peer on a node satisfies a
// condition, and returns it; nil is the condition that the session is up.
func (h *Test) WaitSession(peer, node string, ok func(BGPSession) error) (found BGPSession) {
	h.Helper()
	if ok == nil {
		ok = func(s BGPSession) error {
			if s.State != "Established" {
				return fmt.Errorf("it is %s (%s: %s)", s.State, s.Reason, s.Message)
			}
			return nil
		}
	}
	h.Eventually(2*Patience, func() error {
		list, err := h.SessionsOf(peer)
		if err != nil {
			return err
		}
		for _, s := range list {
			if s.Node == node {
				found = s
				if err := ok(s); err != nil {
					return fmt.Errorf("the session of %s with %s: %w", node, peer, err)
				}
				return nil
			}
		}
		return fmt.Errorf("%s has no BGPSessionStatus for %s", node, peer)
	})
	return found
}

// WaitSessions waits until the BGPSessionStatus objects of a peer are those of
// exactly these nodes, and all are established.
func (h *Test) WaitSessions(peer string, nodes ...string) {
	h.Helper()
	h.Eventually(2*Patience, func() error {
		list, err := h.SessionsOf(peer)
		if err != nil {
			return err
		}
		var got []string
		for _, s := range list {
			if s.State != "Established" {
				return fmt.Errorf("the session of %s with %s is %s (%s: %s)", s.Node, peer, s.State, s.Reason, s.Message)
			}
			got = append(got, s.Node)
		}
		if !slices.Equal(got, nodes) {
			return fmt.Errorf("%s has sessions with the nodes %v, want %v", peer, got, nodes)
		}
		return nil
	})
}

// BGPStatus is what the ServiceBGPStatus of a Service says.
type BGPStatus struct {
	Object, Version string
	Peers           []string
	Nodes           []struct {
		Node  string
		Peers []string
	}
}

// BGPStatusesOf returns all ServiceBGPStatus objects about a Service.
func (h *Test) BGPStatusesOf(service string) ([]BGPStatus, error) {
	list, err := h.Dynamic.Resource(BGPStatuses).Namespace(herald.Namespace).List(h.Ctx, metav1.ListOptions{
		LabelSelector: "metallb.io/service-name=" + service + ",metallb.io/service-namespace=" + h.Namespace,
	})
	if err != nil {
		return nil, err
	}
	var out []BGPStatus
	for _, o := range list.Items {
		var s BGPStatus
		if err := statusOf(&o, &s); err != nil {
			return nil, err
		}
		s.Object, s.Version = o.GetName(), o.GetResourceVersion()
		out = append(out, s)
	}
	return out, nil
}

// WaitBGPStatus waits until the one ServiceBGPStatus of a Service names exactly
// these nodes and, for each of them, exactly these peers; no node means that there
// is no object.
func (h *Test) WaitBGPStatus(service string, peers map[string][]string) {
	h.Helper()
	h.Eventually(Patience, func() error {
		list, err := h.BGPStatusesOf(service)
		if err != nil {
			return err
		}
		if len(peers) == 0 && len(list) == 0 {
			return nil
		}
		if len(list) != 1 {
			return fmt.Errorf("service %s has the ServiceBGPStatus objects %+v, want one for %v", service, list, peers)
		}
		got := map[string][]string{}
		for _, n := range list[0].Nodes {
			got[n.Node] = n.Peers
		}
		for node, want := range peers {
			if slices.Sort(want); !slices.Equal(got[node], want) {
				return fmt.Errorf("service %s is advertised from %s to %v, want to %v", service, node, got[node], want)
			}
		}
		if len(got) != len(peers) {
			return fmt.Errorf("service %s is advertised from %v, want from %v", service, got, peers)
		}
		return nil
	})
}
