package config

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
)

// Objects is the input of Compile: everything of Herald's own namespace, in
// any order. Compile changes none of it.
type Objects struct {
	Pools             []v1beta1.IPAddressPool
	L2Advertisements  []v1beta1.L2Advertisement
	BGPAdvertisements []v1beta1.BGPAdvertisement
	Peers             []v1beta2.BGPPeer
	BFDProfiles       []v1beta1.BFDProfile
	Communities       []v1beta1.Community
	// Nodes are the nodes that two objects can contradict each other on. The
	// controller, which looks after the whole cluster, gives all of them; a
	// speaker gives itself, so that a contradiction elsewhere is not its
	// problem. With none given, any two selectors may select a common node.
	Nodes []Node
}

// Node is a node's name and labels.
type Node struct {
	Name   string
	Labels map[string]string
}

// byAge returns pointers to the items, the oldest first. Where two objects
// contradict each other the older one stands; objects of one second go by
// name.
func byAge[T any, P interface {
	*T
	metav1.Object
}](items []T) []P {
	out := make([]P, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	slices.SortStableFunc(out, func(a, b P) int {
		ta, tb := a.GetCreationTimestamp(), b.GetCreationTimestamp()
		return cmp.Or(
			ta.Compare(tb.Time),
			strings.Compare(a.GetName(), b.GetName()),
			strings.Compare(a.GetNamespace(), b.GetNamespace()),
		)
	})
	return out
}
