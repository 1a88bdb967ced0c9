package report

import (
	"crypto/sha256"
	"encoding/hex"

	"k8s.io/apimachinery/pkg/util/validation"

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
	return s[:limit-suffix] + "-" + digest(s)
}

// digest is a short hash for names: 40 bits, among the objects of one cluster.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:10]
}

// statusName is the name of a node's ServiceL2Status for a Service. It follows
// from both, so that creating it twice is harmless.
func statusName(key service.Key, node string) string {
	sum := sha256.Sum256([]byte(key.String() + "@" + node))
	return "l2-" + hex.EncodeToString(sum[:])[:16]
}

// stateName is the name of a node's ConfigurationState.
func stateName(node string) string {
	return shorten("speaker-"+node, validation.DNS1123SubdomainMaxLength)
}
