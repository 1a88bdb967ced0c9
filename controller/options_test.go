package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func none(string) string { return "" }

func TestArgumentsOfMetalLBsManifestsAreAccepted(t *testing.T) {
	env := map[string]string{
		"METALLB_NAMESPACE": "metallb-system", "METALLB_POD_NAME": "controller-1",
		"METALLB_DEPLOYMENT": "controller", "METALLB_ML_SECRET_NAME": "memberlist",
	}
	o, err := parseOptions([]string{
		"--port=7472", "--log-level=debug", "--tls-min-version=VersionTLS12", "--webhook-mode=disabled", "--lb-class=example.org/fast",
		"--disable-cert-rotation", "--cert-dir=/tmp/x", "--cert-service-name=s", "--webhook-secret=s", "--webhook-http2=true",
	}, func(key string) string { return env[key] })
	if err != nil {
		t.Fatal(err)
	}
	if o.secret != "memberlist" || o.deployment != "controller" || o.pod != "controller-1" || o.class != "example.org/fast" || !o.allocate {
		t.Errorf("%+v", o)
	}
	want := []string{
		"--cert-dir has no effect", "--cert-service-name has no effect", "--disable-cert-rotation has no effect",
		"--webhook-http2 has no effect", "--webhook-secret has no effect",
	}
	if diff := cmp.Diff(want, o.warnings); diff != "" {
		t.Errorf("warnings (-want +got)\n%s", diff)
	}
}

func TestWebhookOnlyGivesOutNothing(t *testing.T) {
	o, err := parseOptions([]string{"--namespace=x", "--webhook-mode=onlywebhook"}, none)
	if err != nil || o.allocate || len(o.warnings) != 1 {
		t.Errorf("%+v %v", o, err)
	}
}

func TestWrongArgumentsAreNamed(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"a word that is no flag", []string{"run"}, `unexpected argument "run"`},
		{"a webhook mode that does not exist", []string{"--webhook-mode=maybe"}, `--webhook-mode "maybe": expected enabled`},
		{"a Secret without an owner", []string{"--ml-secret-name=memberlist"}, `--ml-secret-name "memberlist" needs --deployment`},
		{"a port that is none", []string{"--port=70000"}, "--port 70000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseOptions(append([]string{"--namespace=x"}, tt.args...), none)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
