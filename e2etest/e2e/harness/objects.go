//go:build lab

package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"github.com/heraldlb/herald/e2etest/herald"
)

// Herald's kinds, as the dynamic client calls them.
var (
	Pools               = heraldKind("ipaddresspools")
	L2Advertisements    = heraldKind("l2advertisements")
	L2Statuses          = heraldKind("servicel2statuses")
	ConfigurationStates = heraldKind("configurationstates")
)

func heraldKind(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "metallb.io", Version: "v1beta1", Resource: resource}
}

// fieldManager is who writes, for server-side apply.
const fieldManager = "e2e"

// Apply applies YAML as `kubectl apply --server-side` does. Herald's kinds go to
// its namespace, other objects without a namespace to the test's. Everything is
// deleted when the test ends.
func (h *Test) Apply(text string) {
	h.Helper()
	h.Must(h.TryApply(text))
}

// TryApply is Apply for what the API server may refuse.
func (h *Test) TryApply(text string) error {
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		o := &unstructured.Unstructured{}
		if err := decoder.Decode(&o.Object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the test's YAML: %w\n%s", err, text)
		}
		if len(o.Object) == 0 {
			continue
		}
		if err := h.applyOne(o); err != nil {
			return err
		}
	}
}

func (h *Test) applyOne(o *unstructured.Unstructured) error {
	gvk := o.GroupVersionKind()
	mapping, err := h.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return err
	}
	var client dynamic.ResourceInterface = h.Dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		if o.GetNamespace() == "" {
			o.SetNamespace(h.Namespace)
			if gvk.Group == Pools.Group {
				o.SetNamespace(herald.Namespace)
			}
		}
		client = h.Dynamic.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	_, err = client.Get(h.Ctx, o.GetName(), metav1.GetOptions{})
	fresh := apierrors.IsNotFound(err)
	if _, err := client.Apply(h.Ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
		return fmt.Errorf("apply %s %s: %w", gvk.Kind, o.GetName(), err)
	}
	if fresh {
		h.OnEnd("delete "+gvk.Kind+" "+o.GetName(), func(ctx context.Context) error {
			return ignoreNotFound(client.Delete(ctx, o.GetName(), metav1.DeleteOptions{}))
		})
	}
	return nil
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// Pool applies an IPAddressPool with a spec in YAML and returns its name, which
// is the test's namespace and the given suffix.
func (h *Test) Pool(suffix, spec string) string {
	h.Helper()
	return h.heraldObject("IPAddressPool", suffix, "", spec)
}

// LabelledPool is Pool with labels in YAML.
func (h *Test) LabelledPool(suffix, labels, spec string) string {
	h.Helper()
	return h.heraldObject("IPAddressPool", suffix, labels, spec)
}

// Advertise applies an L2Advertisement with a spec in YAML and returns its name,
// which is the test's namespace and the given suffix.
func (h *Test) Advertise(suffix, spec string) string {
	h.Helper()
	return h.heraldObject("L2Advertisement", suffix, "", spec)
}

func (h *Test) heraldObject(kind, suffix, labels, spec string) string {
	h.Helper()
	name := h.Namespace + "-" + suffix
	if !strings.HasPrefix(spec, "{") {
		spec = "{" + spec + "}"
	}
	h.Apply(fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: %s, labels: {%s}}\nspec: %s\n", apiVersion(kind), kind, name, labels, spec))
	return name
}

// apiVersion is the version that is stored.
func apiVersion(kind string) string {
	if kind == "BGPPeer" {
		return "metallb.io/v1beta2"
	}
	return "metallb.io/v1beta1"
}

// Delete deletes an object of one of Herald's kinds.
func (h *Test) Delete(kind schema.GroupVersionResource, name string) {
	h.Helper()
	h.Must(h.Dynamic.Resource(kind).Namespace(herald.Namespace).Delete(h.Ctx, name, metav1.DeleteOptions{}))
}

// Object reads an object of one of Herald's kinds.
func (h *Test) Object(kind schema.GroupVersionResource, name string) (*unstructured.Unstructured, error) {
	return h.Dynamic.Resource(kind).Namespace(herald.Namespace).Get(h.Ctx, name, metav1.GetOptions{})
}

// mergePatch is a JSON merge patch.
const mergePatch = types.MergePatchType
