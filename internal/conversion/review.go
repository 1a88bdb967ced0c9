package conversion

import (
	"encoding/json"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
)

// Review answers a ConversionReview of the API server. All objects are
// converted, or none and the answer says why.
func Review(in *apiextensionsv1.ConversionReview) *apiextensionsv1.ConversionReview {
	out := &apiextensionsv1.ConversionReview{TypeMeta: in.TypeMeta}
	if in.Request == nil {
		out.Response = refusal("", fmt.Errorf("the ConversionReview has no request: expected one"))
		return out
	}
	out.Response = &apiextensionsv1.ConversionResponse{
		UID:              in.Request.UID,
		ConvertedObjects: make([]runtime.RawExtension, 0, len(in.Request.Objects)),
		Result:           metav1.Status{Status: metav1.StatusSuccess},
	}
	for i, object := range in.Request.Objects {
		raw, err := convert(object.Raw, in.Request.DesiredAPIVersion)
		if err != nil {
			out.Response = refusal(in.Request.UID, fmt.Errorf("convert object %d: %w", i, err))
			return out
		}
		out.Response.ConvertedObjects = append(out.Response.ConvertedObjects, runtime.RawExtension{Raw: raw})
	}
	return out
}

func refusal(uid types.UID, err error) *apiextensionsv1.ConversionResponse {
	return &apiextensionsv1.ConversionResponse{
		UID:    uid,
		Result: metav1.Status{Status: metav1.StatusFailure, Message: err.Error()},
	}
}

// convert turns the JSON of one object into that of the desired version.
func convert(raw []byte, desired string) ([]byte, error) {
	var meta metav1.TypeMeta
	if err := json.Unmarshal(raw, &meta); err != nil {
		return nil, fmt.Errorf("read the object: %w", err)
	}
	if meta.Kind != "BGPPeer" {
		return nil, fmt.Errorf("cannot convert kind %q: expected BGPPeer, the only kind with two versions", meta.Kind)
	}
	v1, v2 := v1beta1.GroupVersion.String(), v1beta2.GroupVersion.String()
	switch {
	case meta.APIVersion == desired && (desired == v1 || desired == v2):
		return raw, nil
	case meta.APIVersion == v1 && desired == v2:
		return through(raw, ToV1beta2)
	case meta.APIVersion == v2 && desired == v1:
		return through(raw, ToV1beta1)
	}
	return nil, fmt.Errorf("cannot convert BGPPeer from %q to %q: expected %s and %s", meta.APIVersion, desired, v1, v2)
}

func through[In, Out any](raw []byte, f func(*In) *Out) ([]byte, error) {
	var in In
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, fmt.Errorf("read the BGPPeer: %w", err)
	}
	return json.Marshal(f(&in))
}
