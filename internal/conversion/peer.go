// Package conversion turns the two versions of BGPPeer into one another, and
// answers the API server's ConversionReview with that.
//
// It is pure. Nothing is lost on the way: v1beta1 cannot hold half of v1beta2,
// so ToV1beta1 puts what is left over into an annotation, from which ToV1beta2
// takes it back. The annotation is of the API server's making: it exists in
// the v1beta1 view only, and is not stored.
//
// The controller serves Review under /convert; nobody else calls it.
package conversion

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
)

const (
	// RestAnnotation is on v1beta1 objects. It holds, as the JSON of a v1beta2
	// spec, the fields that v1beta1 does not have.
	RestAnnotation = "heraldlb.io/v1beta2-rest"
	// SelectorsAnnotation is on v1beta2 objects that came from v1beta1. It holds
	// the node selectors as they were written, if v1beta2 cannot: v1beta1 wants
	// a value, of no meaning, beside Exists and DoesNotExist.
	SelectorsAnnotation = "heraldlb.io/v1beta1-node-selectors"
)

// ToV1beta2 converts up, to the stored version.
func ToV1beta2(in *v1beta1.BGPPeer) *v1beta2.BGPPeer {
	out := &v1beta2.BGPPeer{TypeMeta: in.TypeMeta}
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.APIVersion = v1beta2.GroupVersion.String()

	var rest v1beta2.BGPPeerSpec
	if text, ok := takeAnnotation(&out.Annotations, RestAnnotation); ok {
		// An annotation that a user has spoiled says nothing.
		if json.Unmarshal([]byte(text), &rest) != nil {
			rest = v1beta2.BGPPeerSpec{}
		}
	}
	old := in.Spec.DeepCopy()
	out.Spec = v1beta2.BGPPeerSpec{
		MyASN: old.MyASN, ASN: old.ASN, Address: old.Address, SrcAddress: old.SrcAddress, Port: old.Port,
		HoldTime: old.HoldTime, KeepaliveTime: old.KeepaliveTime, RouterID: old.RouterID,
		NodeSelectors: selectorsUp(old.NodeSelectors),
		Password:      old.Password, BFDProfile: old.BFDProfile, EBGPMultiHop: old.EBGPMultiHop,
	}
	restore(&out.Spec, &rest)

	if !equality.Semantic.DeepEqual(selectorsDown(out.Spec.NodeSelectors), old.NodeSelectors) {
		setAnnotation(&out.Annotations, SelectorsAnnotation, old.NodeSelectors)
	}
	return out
}

// leftOver is what v1beta1 cannot hold of spec, each beside the v1beta1 field
// that excludes it.
func leftOver(spec *v1beta2.BGPPeerSpec) v1beta2.BGPPeerSpec {
	rest := v1beta2.BGPPeerSpec{
		LocalASN: spec.LocalASN, ConnectTime: spec.ConnectTime,
		EnableGracefulRestart: spec.EnableGracefulRestart, VRFName: spec.VRFName,
		DisableMP: spec.DisableMP, DualStackAddressFamily: spec.DualStackAddressFamily,
		PassiveMode: spec.PassiveMode,
	}
	if spec.DynamicASN != "" {
		rest.DynamicASN, rest.ASN = spec.DynamicASN, spec.ASN
	}
	if spec.Interface != "" || spec.Prefix != "" {
		rest.Interface, rest.Prefix, rest.Address = spec.Interface, spec.Prefix, spec.Address
	}
	if spec.TTLSecurity {
		rest.TTLSecurity, rest.EBGPMultiHop = true, spec.EBGPMultiHop
	}
	if spec.PasswordSecret != (v1beta2.SecretReference{}) {
		rest.PasswordSecret, rest.Password = spec.PasswordSecret, spec.Password
	}
	return rest
}

// restore puts the left-overs back into spec. Where the v1beta1 field that
// excludes one has changed, somebody wrote it since, and it stands.
func restore(spec, rest *v1beta2.BGPPeerSpec) {
	spec.LocalASN, spec.ConnectTime = rest.LocalASN, rest.ConnectTime
	spec.EnableGracefulRestart, spec.VRFName = rest.EnableGracefulRestart, rest.VRFName
	spec.DisableMP, spec.DualStackAddressFamily = rest.DisableMP, rest.DualStackAddressFamily
	spec.PassiveMode = rest.PassiveMode
	if spec.ASN == rest.ASN {
		spec.DynamicASN = rest.DynamicASN
	}
	if spec.Address == rest.Address {
		spec.Interface, spec.Prefix = rest.Interface, rest.Prefix
	}
	if spec.EBGPMultiHop == rest.EBGPMultiHop {
		spec.TTLSecurity = rest.TTLSecurity
	}
	if spec.Password == rest.Password {
		spec.PasswordSecret = rest.PasswordSecret
	}
}

// ToV1beta1 converts down.
func ToV1beta1(in *v1beta2.BGPPeer) *v1beta1.BGPPeer {
	out := &v1beta1.BGPPeer{TypeMeta: in.TypeMeta}
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.APIVersion = v1beta1.GroupVersion.String()

	spec := in.Spec.DeepCopy()
	out.Spec = v1beta1.BGPPeerSpec{
		MyASN: spec.MyASN, ASN: spec.ASN, Address: spec.Address, SrcAddress: spec.SrcAddress, Port: spec.Port,
		HoldTime: spec.HoldTime, KeepaliveTime: spec.KeepaliveTime, RouterID: spec.RouterID,
		NodeSelectors: selectorsDown(spec.NodeSelectors),
		Password:      spec.Password, BFDProfile: spec.BFDProfile, EBGPMultiHop: spec.EBGPMultiHop,
	}
	if text, ok := takeAnnotation(&out.Annotations, SelectorsAnnotation); ok {
		var written []v1beta1.NodeSelector
		// They stand as long as they mean what v1beta2 says now.
		if json.Unmarshal([]byte(text), &written) == nil &&
			equality.Semantic.DeepEqual(selectorsUp(written), spec.NodeSelectors) {
			out.Spec.NodeSelectors = written
		}
	}
	if rest := leftOver(spec); !reflect.DeepEqual(rest, v1beta2.BGPPeerSpec{}) {
		setAnnotation(&out.Annotations, RestAnnotation, rest)
	}
	return out
}

// takesNoValues is true for the operators beside which v1beta2 allows no
// values and v1beta1 wants at least one.
func takesNoValues(operator string) bool { return operator == "Exists" || operator == "DoesNotExist" }

func selectorsUp(in []v1beta1.NodeSelector) []v1beta1.LabelSelector {
	var out []v1beta1.LabelSelector
	for _, s := range in {
		up := v1beta1.LabelSelector{MatchLabels: maps.Clone(s.MatchLabels)}
		for _, e := range s.MatchExpressions {
			r := v1beta1.LabelSelectorRequirement{Key: e.Key, Operator: e.Operator}
			if !takesNoValues(e.Operator) {
				r.Values = slices.Clone(e.Values)
			}
			up.MatchExpressions = append(up.MatchExpressions, r)
		}
		out = append(out, up)
	}
	return out
}

func selectorsDown(in []v1beta1.LabelSelector) []v1beta1.NodeSelector {
	var out []v1beta1.NodeSelector
	for _, s := range in {
		down := v1beta1.NodeSelector{MatchLabels: maps.Clone(s.MatchLabels)}
		for _, r := range s.MatchExpressions {
			e := v1beta1.MatchExpression{Key: r.Key, Operator: r.Operator, Values: slices.Clone(r.Values)}
			if takesNoValues(r.Operator) && len(e.Values) == 0 {
				e.Values = []string{""}
			}
			down.MatchExpressions = append(down.MatchExpressions, e)
		}
		out = append(out, down)
	}
	return out
}

func takeAnnotation(annotations *map[string]string, key string) (text string, ok bool) {
	text, ok = (*annotations)[key]
	delete(*annotations, key)
	if len(*annotations) == 0 {
		*annotations = nil
	}
	return text, ok
}

func setAnnotation(annotations *map[string]string, key string, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic("conversion: marshal " + key + ": " + err.Error())
	}
	if *annotations == nil {
		*annotations = map[string]string{}
	}
	(*annotations)[key] = string(text)
}
