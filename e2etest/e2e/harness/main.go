//go:build lab

package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"

	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab"
)

// World is the lab that the tests of one package share.
type World struct {
	*lab.Cluster
	Kube    kubernetes.Interface
	Dynamic dynamic.Interface

	mapper meta.RESTMapper
	dumps  string
	blocks *blocks
}

// world is set by Main before any test runs. Package testing gives no other way
// from TestMain to a test.
var world *World

// upTimeout bounds the start of the lab and the installation.
const upTimeout = 4 * time.Minute

// A Guard watches the lab from its start until stop, beside all tests; stop
// returns what it saw that must never be.
type Guard func(w *World) (stop func() error, err error)

// Main makes a lab, installs Herald, runs the tests under the eyes of the guards
// and takes everything down. It returns what TestMain passes to os.Exit. Should
// the program die, the lab ends with it, for it is not detached.
func Main(m *testing.M, o lab.Options, guards ...Guard) (code int) {
	dumps := filepath.Join(os.TempDir(), "herald-e2e-"+o.Name)
	if err := os.RemoveAll(dumps); err != nil {
		return complain("remove what an earlier run left", err)
	}
	o.LogDir = filepath.Join(dumps, "lab")
	ctx, cancel := context.WithTimeout(context.Background(), upTimeout)
	defer cancel()
	start := time.Now()
	w, err := up(ctx, o)
	if err != nil {
		return complain("start the lab (its logs are in "+o.LogDir+")", err)
	}
	defer func() {
		if r := recover(); r != nil {
			code = complain("run the tests", fmt.Errorf("panic: %v\n%s", r, debug.Stack()))
		}
		if err := w.Down(); err != nil {
			code = complain("take the lab down", err)
		}
		if code == 0 {
			_ = os.RemoveAll(dumps) // only logs that nobody needs
		} else {
			fmt.Fprintln(os.Stderr, "e2e: the logs of the lab are in", o.LogDir)
		}
	}()
	fmt.Fprintf(os.Stderr, "e2e: lab %s with Herald is up after %s\n", o.Name, time.Since(start).Round(100*time.Millisecond))
	w.dumps, world = dumps, w
	var stops []func() error
	for _, guard := range guards {
		stop, err := guard(w)
		if err != nil {
			return complain("watch the lab", err)
		}
		stops = append(stops, stop)
	}
	code = m.Run()
	for _, stop := range stops {
		if err := stop(); err != nil {
			code = complain("find the lab sound", err)
		}
	}
	return code
}

func complain(what string, err error) int {
	fmt.Fprintf(os.Stderr, "e2e: cannot %s: %v\n", what, err)
	return 1
}

func up(ctx context.Context, o lab.Options) (w *World, err error) {
	w = &World{blocks: newBlocks()}
	if w.Cluster, err = lab.Up(ctx, o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Down())
		}
	}()
	if err := herald.Install(ctx, w.Cluster); err != nil {
		return nil, err
	}
	cfg, err := w.RESTConfig()
	if err != nil {
		return nil, err
	}
	if w.Kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return nil, err
	}
	if w.Dynamic, err = dynamic.NewForConfig(cfg); err != nil {
		return nil, err
	}
	groups, err := restmapper.GetAPIGroupResources(w.Kube.Discovery())
	if err != nil {
		return nil, fmt.Errorf("ask the API server what kinds it has: %w", err)
	}
	w.mapper = restmapper.NewDiscoveryRESTMapper(groups)
	return w, w.allowMetrics(ctx)
}
