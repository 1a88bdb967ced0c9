package report

import (
	"fmt"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
)

// bgpWrites are those to the ServiceBGPStatus of a Service. There is one such
// object for all nodes that advertise it, and who reports writes it.
type bgpWrites struct {
	// replace deletes the object before create.
	replace bool
	create  *v1beta1.ServiceBGPStatus
	status  *v1beta1.ServiceBGPStatusStatus
	remove  []string
}

func (me identity) decideBGPStatus(f facts, w *writes) {
	if f.bgpStarting {
		return
	}
	reports := f.reports()
	wanted := f.there && reports && f.bgp != nil && len(f.bgp.Advertisers) > 0
	name := bgpStatusName(f.key)
	var want v1beta1.ServiceBGPStatusStatus
	if wanted {
		want = bgpStatus(f.key, f.bgp.Advertisers)
	}
	// told is true if an object said that somebody advertises the Service.
	kept, told := false, false
	for _, s := range f.bgpStatuses {
		if s.DeletionTimestamp != nil {
			continue
		}
		told = told || s.Status.ServiceName != ""
		switch {
		case wanted && s.Name == name && ownedBy(s, me.owner) && s.Status.Node == "":
			kept = true
			if !sameBGPStatus(s, want) {
				w.bgp.status = &want
			}
		case wanted && s.Name == name:
			w.bgp.replace = true
		case reports,
			!f.known() && f.reported,
			!f.known() && f.sweeps && !f.there:
			w.bgp.remove = append(w.bgp.remove, s.Name)
		}
	}
	slices.Sort(w.bgp.remove)
	if wanted && !kept {
		w.bgp.create, w.bgp.status = &v1beta1.ServiceBGPStatus{ObjectMeta: me.meta(name, f.key)}, &want
	}
	switch {
	case wanted && !told:
		w.events = append(w.events, note{reason: eventAssigned, text: me.assigned(f.bgp.Advertisers)})
	case told && !wanted && reports && f.there:
		text := "no node advertises it by BGP any more"
		if f.bgp != nil && f.bgp.Outcome.Message != "" {
			text += ": " + clip(f.bgp.Outcome.Message)
		}
		w.events = append(w.events, note{reason: eventWithdrawn, text: text})
	}
}

// assigned says in MetalLB's words that the Service is advertised, from now on,
// by this node if it is one of those that do.
func (me identity) assigned(by []desired.Advertiser) string {
	node := by[0].Node
	if slices.ContainsFunc(by, func(a desired.Advertiser) bool { return a.Node == me.node }) {
		node = me.node
	}
	text := announcingFrom(node, desired.BGP)
	switch others := len(by) - 1; others {
	case 0:
		return text
	case 1:
		return text + " and from 1 more node"
	default:
		return fmt.Sprintf("%s and from %d more nodes", text, others)
	}
}

// bgpStatus is what the ServiceBGPStatus of a Service says. It names no single
// node: that field cannot change.
func bgpStatus(key service.Key, by []desired.Advertiser) v1beta1.ServiceBGPStatusStatus {
	s := v1beta1.ServiceBGPStatusStatus{ServiceName: key.Name, ServiceNamespace: key.Namespace, Peers: peersOf(by)}
	for _, a := range by {
		s.Nodes = append(s.Nodes, v1beta1.ServiceBGPStatusNode{Node: a.Node, Peers: a.Peers})
	}
	return s
}

// peersOf are the names of all peers, sorted, each once.
func peersOf(by []desired.Advertiser) []string {
	var all []string
	for i, a := range by {
		if i == 0 || !slices.Equal(a.Peers, by[i-1].Peers) {
			all = append(all, a.Peers...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// sameBGPStatus tells whether an object, be it one that slimBGPStatus has
// passed, says what is wanted.
func sameBGPStatus(have *v1beta1.ServiceBGPStatus, want v1beta1.ServiceBGPStatusStatus) bool {
	return have.Status.Node == want.Node && have.Status.ServiceName == want.ServiceName &&
		have.Status.ServiceNamespace == want.ServiceNamespace && said(have) == digestOf(want)
}

// said is the digest of what an object says of nodes and peers. A slim object
// has it in place of the peers, and no nodes.
func said(s *v1beta1.ServiceBGPStatus) string {
	if len(s.Status.Nodes) == 0 && len(s.Status.Peers) == 1 {
		return s.Status.Peers[0]
	}
	return digestOf(s.Status)
}

// slimBGPStatuses returns a function that keeps of a ServiceBGPStatus what is
// compared: there is one for each Service that is advertised, and each may name
// hundreds of nodes. All share their owner.
func slimBGPStatuses() func(any) (any, error) {
	var mu sync.Mutex
	owners := map[types.UID][]metav1.OwnerReference{}
	return func(obj any) (any, error) {
		s, ok := obj.(*v1beta1.ServiceBGPStatus)
		if !ok {
			return obj, nil
		}
		slim := slimmed(s)
		if len(s.OwnerReferences) != 1 {
			return slim, nil
		}
		mu.Lock()
		defer mu.Unlock()
		uid := s.OwnerReferences[0].UID
		if owners[uid] == nil {
			owners[uid] = s.OwnerReferences
		}
		slim.OwnerReferences = owners[uid]
		return slim, nil
	}
}

func slimmed(s *v1beta1.ServiceBGPStatus) *v1beta1.ServiceBGPStatus {
	slim := &v1beta1.ServiceBGPStatus{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: shared(s.Namespace), Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion,
			DeletionTimestamp: s.DeletionTimestamp, OwnerReferences: s.OwnerReferences,
		},
		Status: v1beta1.ServiceBGPStatusStatus{
			Node: shared(s.Status.Node), ServiceName: s.Status.ServiceName, ServiceNamespace: shared(s.Status.ServiceNamespace),
			Peers: []string{shared(digestOf(s.Status))},
		},
	}
	if s.Status.ServiceName == "" {
		slim.Labels = s.Labels // until the status is written they name the Service
	}
	return slim
}
