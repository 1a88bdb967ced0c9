package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestProbeCounter(t *testing.T) {
	tests := []struct {
		name             string
		success, failure int32
		start            bool
		results          string // + and -
		want             string // R ready, u unready after each; ! when the failure threshold is reached
	}{
		{"readiness needs one success", 1, 3, false, "-+", "u R"},
		{"readiness falls after three failures", 1, 3, true, "--+---", "R R R R R u!"},
		{"two successes in a row", 2, 1, false, "+-++", "u u! u R"},
		{"liveness starts well and fails again and again", 1, 2, true, "----", "R u! u u!"},
		{"startup fails without ever having succeeded", 1, 3, false, "---", "u u u!"},
		{"a success forgives", 1, 3, true, "--+--", "R R R R R"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newProbeCounter(&corev1.Probe{SuccessThreshold: tt.success, FailureThreshold: tt.failure}, tt.start)
			var got []string
			for _, r := range tt.results {
				_, failed := c.observe(r == '+')
				s := "u"
				if c.healthy {
					s = "R"
				}
				if failed {
					s += "!"
				}
				got = append(got, s)
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProbeIsEagerUntilItsFirstSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		up := start.Add(2*time.Second + 250*time.Millisecond) // the process listens from then on
		var reported []string
		go runProbe(ctx, &corev1.Probe{InitialDelaySeconds: 1, PeriodSeconds: 10}, true,
			func(context.Context) error {
				if time.Now().Before(up) {
					return errors.New("refused")
				}
				return nil
			},
			func(err error) bool {
				word := "ok"
				if err != nil {
					word = "failed"
				}
				reported = append(reported, word+" at "+time.Since(start).String())
				return true
			})
		time.Sleep(25 * time.Second)
		synctest.Wait()
		// The tries in between fail without counting, and the first success counts.
		want := []string{"failed at 1s", "ok at 2.3s", "ok at 11s", "ok at 21s"}
		if diff := cmp.Diff(want, reported); diff != "" {
			t.Errorf("results that count (-want +got):\n%s", diff)
		}
	})
}

func TestHTTPProbe(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.Header.Get("X-Probe") != "") != (r.Host == "speaker") {
			http.Error(w, "headers are missing", http.StatusBadRequest)
		} else if r.URL.Path != "/healthz" || r.URL.RawQuery != "v=1" {
			http.Error(w, "not well", http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	addr := srv.Listener.Addr().(*net.TCPAddr)
	c := &corev1.Container{Name: "c", Ports: []corev1.ContainerPort{{Name: "monitoring", ContainerPort: int32(addr.Port)}}}
	tests := []struct {
		name string
		get  corev1.HTTPGetAction
		want string
	}{
		{"by the port's name, at the pod", corev1.HTTPGetAction{Path: "/healthz?v=1", Port: intstr.FromString("monitoring")}, ""},
		{"at a host of its own", corev1.HTTPGetAction{Path: "healthz?v=1", Host: "localhost", Port: intstr.FromInt(addr.Port),
			HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Probe", Value: "1"}, {Name: "Host", Value: "speaker"}}}, ""},
		{"a bad status", corev1.HTTPGetAction{Path: "/x", Port: intstr.FromInt(addr.Port)}, "status 503: not well"},
		{"an unknown port", corev1.HTTPGetAction{Port: intstr.FromString("metrics")}, `port "metrics" is not one of container c`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			try, err := handlerFunc(corev1.ProbeHandler{HTTPGet: &tt.get}, c, "127.0.0.1", nil)
			if err == nil {
				err = try(t.Context())
			}
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
