package report

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/service"
)

// Labels of the objects, MetalLB's.
const (
	labelNode             = "metallb.io/node"
	labelServiceName      = "metallb.io/service-name"
	labelServiceNamespace = "metallb.io/service-namespace"
	labelComponentType    = "metallb.io/component-type"
	labelNodeName         = "metallb.io/node-name"
)

// labelPeer is ours: the BGPPeer of a BGPSessionStatus.
const labelPeer = "heraldlb.io/peer"

// ConditionAnnounced is the type of the condition on a Service.
const ConditionAnnounced = "heraldlb.io/Announced"

// labelValue returns s if it can be a label's value. Otherwise, as for a node
// with a name above 63 characters, it is cut and a hash of all of it appended;
// the full name is in the object's status.
func labelValue(s string) string { return shorten(s, validation.LabelValueMaxLength) }

// shorten cuts s to limit characters; a hash keeps the result distinct.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const suffix = 1 + 10
	return strings.TrimRight(s[:limit-suffix], ".-_") + "-" + digest(s)
}

// digest is a short hash for names: 40 bits, among the objects of one cluster.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:10]
}

// statusName is the name of a node's ServiceL2Status for a Service. It follows
// from both, so that creating it twice is harmless.
func statusName(key service.Key, node string) string {
	return "l2-" + longDigest(key.String()+"@"+node)
}

// bgpStatusName is the name of the one ServiceBGPStatus of a Service.
func bgpStatusName(key service.Key) string { return "bgp-" + longDigest(key.String()) }

// sessionName is the name of a node's BGPSessionStatus for a peer. The remote
// address tells apart the neighbours that dial from a peer's prefix; "" for all
// other peers, whose address may change.
func sessionName(peer, node, remote string) string {
	return "bgp-" + longDigest(peer+"@"+node+"@"+remote)
}

// longDigest is a hash for the names of objects, of which a cluster has tens of
// thousands: 64 bits.
func longDigest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:16]
}

// digestOf is a hash of what a ServiceBGPStatus says of nodes and peers. Names
// hold no line breaks or commas.
func digestOf(s v1beta1.ServiceBGPStatusStatus) string {
	h := sha256.New()
	fmt.Fprintln(h, strings.Join(s.Peers, ","))
	for _, n := range s.Nodes {
		fmt.Fprintln(h, n.Node, strings.Join(n.Peers, ","))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// stateName is the name of a node's ConfigurationState.
func stateName(node string) string {
	return shorten("speaker-"+node, validation.DNS1123SubdomainMaxLength)
}
