// Package configtest reads configuration for tests, written as users write it.
package configtest

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/config"
)

// Objects decodes YAML documents into the input of config.Compile. Unknown
// fields and unknown kinds fail the test. Fields with a schema default get it,
// as if the API server had stored them. Kind Node (v1) gives nodes.
func Objects(t testing.TB, text string) config.Objects {
	t.Helper()
	var objects config.Objects
	for _, doc := range strings.Split("\n"+text, "\n---") {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &meta); err != nil {
			t.Fatalf("decode a document: %v\n%s", err, doc)
		}
		if meta.Kind == "" {
			continue
		}
		add(t, &objects, meta, []byte(doc))
	}
	return objects
}

func add(t testing.TB, objects *config.Objects, meta metav1.TypeMeta, doc []byte) {
	t.Helper()
	switch meta.APIVersion + " " + meta.Kind {
	case "metallb.io/v1beta1 IPAddressPool":
		objects.Pools = append(objects.Pools, decode[v1beta1.IPAddressPool](t, doc))
	case "metallb.io/v1beta1 L2Advertisement":
		objects.L2Advertisements = append(objects.L2Advertisements, decode[v1beta1.L2Advertisement](t, doc))
	case "metallb.io/v1beta1 BGPAdvertisement":
		objects.BGPAdvertisements = append(objects.BGPAdvertisements, decode[v1beta1.BGPAdvertisement](t, doc))
	case "metallb.io/v1beta2 BGPPeer":
		peer := decode[v1beta2.BGPPeer](t, doc)
		if peer.Spec.Port == 0 {
			peer.Spec.Port = 179
		}
		objects.Peers = append(objects.Peers, peer)
	case "metallb.io/v1beta1 BFDProfile":
		objects.BFDProfiles = append(objects.BFDProfiles, decode[v1beta1.BFDProfile](t, doc))
	case "metallb.io/v1beta1 Community":
		objects.Communities = append(objects.Communities, decode[v1beta1.Community](t, doc))
	case "v1 Node":
		n := decode[metav1.PartialObjectMetadata](t, doc)
		objects.Nodes = append(objects.Nodes, config.Node{Name: n.Name, Labels: n.Labels})
	default:
		t.Fatalf("%s %s is no kind that config.Compile reads", meta.APIVersion, meta.Kind)
	}
}

func decode[T any](t testing.TB, doc []byte) T {
	t.Helper()
	var out T
	if err := yaml.UnmarshalStrict(doc, &out); err != nil {
		t.Fatalf("decode %T: %v\n%s", out, err, doc)
	}
	return out
}
