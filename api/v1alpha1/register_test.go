package v1alpha1_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/heraldlb/herald/api/v1alpha1"
)

func TestSchemeKnowsEveryKind(t *testing.T) {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"BGPSessionStatus", "BGPSessionStatusList"} {
		object, err := s.New(v1alpha1.GroupVersion.WithKind(name))
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
