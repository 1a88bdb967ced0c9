package main

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/heraldlb/herald/internal/manager"
)

func secretCluster(t *testing.T, f interceptor.Funcs, objects ...client.Object) *kube {
	t.Helper()
	scheme, err := manager.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	owner := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "metallb-system", Name: "controller", UID: "u"}}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(append(objects, owner)...).WithInterceptorFuncs(f).Build()
	return &kube{client: c, live: c, namespace: "metallb-system", deployment: "controller"}
}

func gossipSecret(data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "metallb-system", Name: "memberlist"}, Data: data}
}

func readSecret(t *testing.T, k *kube) *corev1.Secret {
	t.Helper()
	var s corev1.Secret
	if err := k.client.Get(t.Context(), client.ObjectKey{Namespace: "metallb-system", Name: "memberlist"}, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func TestGossipKeyIsMadeWhenAbsent(t *testing.T) {
	k := secretCluster(t, interceptor.Funcs{})
	log := slog.New(slog.DiscardHandler)
	if err := bootstrapSecret(t.Context(), k, "memberlist", log); err != nil {
		t.Fatal(err)
	}
	first := readSecret(t, k)
	if key, err := base64.RawStdEncoding.DecodeString(string(first.Data["secretkey"])); err != nil || len(key) != 16 {
		t.Errorf("key %q (%v), want 128 bits in base64", first.Data["secretkey"], err)
	}
	if o := first.OwnerReferences; len(o) != 1 || o[0].Kind != "Deployment" || o[0].Name != "controller" || o[0].UID != "u" {
		t.Errorf("owner %+v", o)
	}
	if err := bootstrapSecret(t.Context(), k, "memberlist", log); err != nil {
		t.Fatal(err)
	}
	if again := readSecret(t, k); string(again.Data["secretkey"]) != string(first.Data["secretkey"]) {
		t.Error("the key was overwritten")
	}
}

func TestGossipKeyOfOthersIsKept(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, data := range map[string]map[string][]byte{"a key": {"secretkey": []byte("mine")}, "no key": {"other": []byte("x")}} {
		t.Run(name, func(t *testing.T) {
			k := secretCluster(t, interceptor.Funcs{}, gossipSecret(data))
			if err := bootstrapSecret(t.Context(), k, "memberlist", log); err != nil {
				t.Fatal(err)
			}
			if got := readSecret(t, k); string(got.Data["secretkey"]) != string(data["secretkey"]) {
				t.Errorf("data %q", got.Data)
			}
		})
	}
}

func TestGossipKeyRaceAndFailure(t *testing.T) {
	secrets := schema.GroupResource{Resource: "secrets"}
	tests := []struct {
		name  string
		fails error
		want  string
	}{
		{"the other replica was faster", apierrors.NewAlreadyExists(secrets, "memberlist"), ""},
		{"no right to make it", apierrors.NewForbidden(secrets, "memberlist", errors.New("no")), "create Secret metallb-system/memberlist"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := secretCluster(t, interceptor.Funcs{Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return tt.fails }})
			err := bootstrapSecret(t.Context(), k, "memberlist", slog.New(slog.DiscardHandler))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
