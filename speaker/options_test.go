package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/speaker/membership"
)

// daemonSet is the environment that the manifests give.
var daemonSet = map[string]string{
	"METALLB_NODE_NAME": "node-a", "METALLB_POD_NAME": "speaker-x", "METALLB_NAMESPACE": "metallb-system",
	"METALLB_ML_BIND_ADDR": "192.168.1.10", "METALLB_ML_LABELS": "app=metallb,component=speaker",
	"METALLB_ML_SECRET_KEY_PATH": "/etc/ml_secret_key",
}

func parse(t *testing.T, env map[string]string, args ...string) (options, error) {
	t.Helper()
	// The flag package prints its usage there.
	stderr := os.Stderr
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = null
	defer func() { os.Stderr = stderr; _ = null.Close() }()
	return parseOptions(args, func(key string) string { return env[key] })
}

func with(changes map[string]string) map[string]string {
	env := map[string]string{}
	for k, v := range daemonSet {
		env[k] = v
	}
	for k, v := range changes {
		env[k] = v
	}
	return env
}

func TestOptionsOfTheManifests(t *testing.T) {
	o, err := parse(t, daemonSet, "--port=9120", "--log-level=info")
	if err != nil {
		t.Fatal(err)
	}
	if o.node != "node-a" || o.pod != "speaker-x" || o.process.Namespace != "metallb-system" {
		t.Errorf("node %q, pod %q, namespace %q", o.node, o.pod, o.process.Namespace)
	}
	if !o.ring || o.bind.String() != "192.168.1.10" || o.port != 7946 || o.peers.String() != "app=metallb,component=speaker" {
		t.Errorf("ring %v on %s port %d with %v", o.ring, o.bind, o.port, o.peers)
	}
	if o.refresh != 30*time.Second || o.class != "" || o.ignoreExclude || len(o.warnings) != 0 {
		t.Errorf("refresh %s, class %q, ignore %v, warnings %q", o.refresh, o.class, o.ignoreExclude, o.warnings)
	}
}

func TestTimingOfTheRing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	changed := membership.WAN()
	changed.GossipNodes = 7
	for _, tt := range []struct {
		name, content string
		args          []string
		want          membership.Tuning
		err           string
	}{
		{name: "no file", want: membership.LAN()},
		{name: "nodes far apart", args: []string{"--ml-wan-config"}, want: membership.WAN()},
		{name: "a file changes the profile", content: `{"GossipNodes": 7}`, args: []string{"--ml-wan-config"}, want: changed},
		{name: "a file that cannot be understood", content: `GossipNodes: 7`, err: "read " + file},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, err := parse(t, daemonSet, append(tt.args, "--ml-config-file="+file)...)
			if err != nil {
				t.Fatal(err)
			}
			if tt.content != "" {
				if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := o.tuning(slog.New(slog.DiscardHandler))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %s", err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("error %v, timing (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestWrongOptionsAreNamed(t *testing.T) {
	for name, tt := range map[string]struct {
		env  map[string]string
		args []string
		want string
	}{
		"no node":               {env: map[string]string{"METALLB_NODE_NAME": ""}, want: "--node-name is empty"},
		"no pod":                {env: map[string]string{"METALLB_POD_NAME": ""}, want: "--pod-name is empty"},
		"a bad address":         {env: map[string]string{"METALLB_ML_BIND_ADDR": "here"}, want: `--ml-bindaddr "here": expected an IP address`},
		"a bad port":            {args: []string{"--ml-bindport=0"}, want: `--ml-bindport "0": expected 1 to 65535`},
		"bad labels":            {args: []string{"--ml-labels=a in b"}, want: `--ml-labels "a in b": expected a label selector`},
		"no secret":             {env: map[string]string{"METALLB_ML_SECRET_KEY_PATH": ""}, want: "--ml-secret-key-path is empty"},
		"a negative interval":   {args: []string{"--l2-refresh-interval=-1s"}, want: "--l2-refresh-interval -1s: expected 0 or more"},
		"a stray argument":      {args: []string{"stray"}, want: `unexpected argument "stray"`},
		"an unknown flag":       {args: []string{"--strange"}, want: "-strange"},
		"one of the shared":     {args: []string{"--log-level=loud"}, want: `--log-level "loud"`},
		"two mistakes at once":  {args: []string{"--log-level=loud", "--ml-bindport=x"}, want: `--ml-bindport "x"`},
		"a class with no value": {args: []string{"--lb-class"}, want: "needs an argument"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, with(tt.env), tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %s", err, tt.want)
			}
		})
	}
}

func TestOptionsWithoutEffectAreWarnedOf(t *testing.T) {
	for name, tt := range map[string]struct {
		env  map[string]string
		args []string
		want string
	}{
		"a flag of frr-k8s":    {args: []string{"--frrk8s-secret-passthrough", "--frrk8s-namespace", "x"}, want: "--frrk8s-namespace has no effect"},
		"a deprecated flag":    {args: []string{"--host=1.2.3.4"}, want: "--host has no effect"},
		"a back end":           {env: map[string]string{"METALLB_BGP_TYPE": "frr"}, want: "METALLB_BGP_TYPE=frr has no effect"},
		"membership is off":    {env: map[string]string{"METALLB_ML_BIND_ADDR": ""}, want: "membership is off"},
		"membership is off, 2": {env: map[string]string{"METALLB_ML_LABELS": ""}, want: "membership is off"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parse(t, with(tt.env), tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(o.warnings, "\n"), tt.want) {
				t.Errorf("warnings %q, want one with %q", o.warnings, tt.want)
			}
			if off := strings.Contains(tt.want, "membership"); o.ring == off {
				t.Errorf("ring %v", o.ring)
			}
		})
	}
}
