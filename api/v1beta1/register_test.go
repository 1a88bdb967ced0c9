package v1beta1_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
)

func TestSchemeKnowsEveryKind(t *testing.T) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1beta1.AddToScheme, v1beta2.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{
		"IPAddressPool", "L2Advertisement", "BGPAdvertisement", "BGPPeer", "BFDProfile", "Community",
		"ServiceL2Status", "ServiceBGPStatus", "ConfigurationState",
	} {
		for _, name := range []string{kind, kind + "List"} {
			object, err := s.New(v1beta1.GroupVersion.WithKind(name))
			if err != nil {
				t.Error(err)
				continue
			}
			// A copy of nothing is nothing, and not the same nothing.
			if c := object.DeepCopyObject(); c == object {
				t.Errorf("%s: DeepCopyObject gives the object itself", name)
			}
		}
	}
	if _, err := s.New(v1beta2.GroupVersion.WithKind("BGPPeer")); err != nil {
		t.Error(err)
	}
}
