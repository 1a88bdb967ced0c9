package manager

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

func TestRenewalsOfTheLeaseAreTold(t *testing.T) {
	answer := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(answer) }))
	t.Cleanup(srv.Close)
	var told []time.Time
	client, err := rest.HTTPClientFor(electionConfig(&rest.Config{Host: srv.URL}, func(asked time.Time) { told = append(told, asked) }))
	if err != nil {
		t.Fatal(err)
	}
	const leases = "/apis/coordination.k8s.io/v1/namespaces/metallb-system/leases"
	for _, tt := range []struct {
		name, method, path string
		status             int
		want               bool
	}{
		{"taken", http.MethodPost, leases, http.StatusCreated, true},
		{"renewed", http.MethodPut, leases + "/metallb-controller", http.StatusOK, true},
		{"somebody was faster", http.MethodPut, leases + "/metallb-controller", http.StatusConflict, false},
		{"only read", http.MethodGet, leases + "/metallb-controller", http.StatusOK, false},
		{"an event", http.MethodPost, "/api/v1/namespaces/metallb-system/events", http.StatusCreated, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			told, answer = nil, tt.status
			before := time.Now()
			req, err := http.NewRequestWithContext(t.Context(), tt.method, srv.URL+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if (len(told) == 1) != tt.want {
				t.Fatalf("told %v, want it told: %t", told, tt.want)
			}
			if tt.want && (told[0].Before(before) || told[0].After(time.Now())) {
				t.Errorf("told %s for a request at %s", told[0], before)
			}
		})
	}
	if electionConfig(&rest.Config{}, nil) != nil {
		t.Error("the election has a client of its own though nobody wants to know")
	}
}
