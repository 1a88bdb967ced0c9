package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/lab/nsnet"
)

// Flows is what many connections to one address came to.
type Flows struct {
	// ByPod counts the answers of each pod.
	ByPod map[string]int
	// Failed counts the connections without an answer, Err is the last's reason.
	Failed int
	Err    error
}

// flowTimeout bounds one connection.
const flowTimeout = time.Second

// Flows opens n connections from a host to an echo server over HTTP, one after
// another, each from a port of its own, and counts which pod answered how many.
// Where routers spread flows over several nodes, that shows it.
func (c *Cluster) Flows(ctx context.Context, from string, to netip.AddrPort, n int) (Flows, error) {
	f := Flows{ByPod: map[string]int{}}
	h, err := c.State.Layout.Host(from)
	if err != nil {
		return f, err
	}
	ns, err := nsnet.Open(h.Namespace)
	if err != nil {
		return f, err
	}
	defer ns.Close()
	client := http.Client{Timeout: flowTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			// An address and not a name: so the socket is made on this very
			// thread, which is inside the namespace.
			err = ns.Do(func() error {
				conn, err = (&net.Dialer{Timeout: flowTimeout}).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}
	for range n {
		pod, err := askPod(ctx, &client, "http://"+to.String()+"/")
		switch {
		case ctx.Err() != nil:
			return f, ctx.Err()
		case err != nil:
			f.Failed++
			f.Err = err
		default:
			f.ByPod[pod]++
		}
	}
	return f, nil
}

func askPod(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return "", err
	}
	for word := range strings.FieldsSeq(string(text)) {
		if pod, ok := strings.CutPrefix(word, "pod="); ok {
			return pod, nil
		}
	}
	return "", fmt.Errorf("an answer that is not an echo server's: %q", text)
}
