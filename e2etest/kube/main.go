// Command kube is Kubernetes in one binary: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, kube-proxy and kubectl, chosen by the
// name it is called by or by its first argument.
//
// It exists so that the lab can run a real control plane and real nodes from Go
// modules alone. It knows nothing of the lab: every program in it takes exactly
// the flags it takes upstream. The programs share almost all of their code, so
// one binary links once and takes a fifth of the disk of six.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	// Format and metric plugins that the upstream mains link in.
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

// program runs one of the programs with its arguments (the first is its name)
// and returns the exit status.
type program func(args []string) int

// programs returns every program by the name it has upstream.
func programs() map[string]program {
	return map[string]program{
		"etcd": func(args []string) int {
			etcdmain.Main(args) // exits the process itself on a failure
			return 0
		},
		"kube-apiserver":          func([]string) int { return cli.Run(apiserver.NewAPIServerCommand()) },
		"kube-controller-manager": func([]string) int { return cli.Run(controllermanager.NewControllerManagerCommand()) },
		"kube-scheduler":          func([]string) int { return cli.Run(scheduler.NewSchedulerCommand()) },
		"kube-proxy":              func([]string) int { return cli.Run(proxy.NewProxyCommand()) },
		"kubectl":                 func([]string) int { return runKubectl(kubectl.NewDefaultKubectlCommand()) },
	}
}

// runKubectl runs kubectl the way its own main does: errors are printed as
// kubectl prints them, without usage.
func runKubectl(cmd *cobra.Command) int {
	if err := cli.RunNoErrOutput(cmd); err != nil {
		kubectlutil.CheckErr(err) // exits with kubectl's status for the error
		return 1
	}
	return 0
}

func main() {
	known := programs()
	args := os.Args
	name := filepath.Base(args[0])
	run, ok := known[name]
	if !ok && len(args) > 1 {
		args = args[1:]
		name = args[0]
		run, ok = known[name]
	}
	if !ok {
		var names []string
		for n := range known {
			names = append(names, n)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "kube: no program %q in this binary; the first argument must be one of: %s\n", name, strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Args = args
	os.Exit(run(args))
}
