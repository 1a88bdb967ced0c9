package manager

import (
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// The times of the election. A replica that dies is followed within some 12 s,
// one that ends within 2.
const (
	// LeaseDuration is how long nobody else takes a lease that was renewed.
	LeaseDuration = 10 * time.Second
	// RenewDeadline is how long a holder that cannot renew goes on trying.
	RenewDeadline = 7 * time.Second
	retryPeriod   = time.Second
)

// electionConfig is cfg for the election's own client, which tells when a lease
// was taken or renewed. Nil, the default, when nobody wants to know.
func electionConfig(cfg *rest.Config, renewed func(asked time.Time)) *rest.Config {
	if renewed == nil {
		return nil
	}
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return leaseWatcher{next, renewed} })
	return cfg
}

// leaseWatcher sees the writes of a lease that succeed.
type leaseWatcher struct {
	next    http.RoundTripper
	renewed func(asked time.Time)
}

// RoundTrip implements http.RoundTripper.
func (w leaseWatcher) RoundTrip(req *http.Request) (*http.Response, error) {
	asked := time.Now()
	resp, err := w.next.RoundTrip(req)
	writes := req.Method == http.MethodPut || req.Method == http.MethodPost || req.Method == http.MethodPatch
	if err == nil && writes && resp.StatusCode/100 == 2 && strings.Contains(req.URL.Path, "/leases") {
		w.renewed(asked)
	}
	return resp, err
}
