package main

import (
	"flag"
	"fmt"

	"github.com/heraldlb/herald/internal/manager"
)

// options are the controller's flags. The names and the variables of the
// environment are MetalLB's, so that its manifests start Herald.
type options struct {
	process manager.Process

	pod        string
	class      string
	secret     string
	deployment string
	// allocate is false for a process that MetalLB would run for its webhooks
	// alone.
	allocate bool

	// warnings are flags that were given and have no effect.
	warnings []string
}

// ignoredFlags concern webhooks, which Herald does without: the schema of its
// kinds refuses what a webhook would.
var ignoredFlags = []manager.Ignored{
	{Name: "disable-cert-rotation", Bool: true, Why: "there is no webhook"},
	{Name: "cert-dir", Why: "there is no webhook"},
	{Name: "cert-service-name", Why: "there is no webhook"},
	{Name: "webhook-secret", Why: "there is no webhook"},
	{Name: "webhook-http2", Bool: true, Why: "there is no webhook"},
}

// parseOptions reads and checks everything before anything starts.
func parseOptions(args []string, getenv func(string) string) (options, error) {
	var o options
	var webhooks string
	fs := flag.NewFlagSet("controller", flag.ContinueOnError)
	o.process.AddFlags(fs, getenv)
	fs.StringVar(&o.pod, "pod-name", getenv("METALLB_POD_NAME"), "`name` of this pod, which events carry (env METALLB_POD_NAME)")
	fs.StringVar(&o.class, "lb-class", "", "load balancer `class` to serve (empty: Services without a class)")
	fs.StringVar(&o.secret, "ml-secret-name", getenv("METALLB_ML_SECRET_NAME"),
		"`name` of the Secret with the gossip key, made when it is absent (env METALLB_ML_SECRET_NAME; empty: none is made)")
	fs.StringVar(&o.deployment, "deployment", getenv("METALLB_DEPLOYMENT"),
		"`name` of this Deployment, the owner of what the controller makes (env METALLB_DEPLOYMENT)")
	fs.StringVar(&webhooks, "webhook-mode", "enabled",
		"`mode`: enabled and disabled mean the same, since there is no webhook; onlywebhook gives out no addresses")
	given := manager.IgnoreFlags(fs, ignoredFlags)

	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; expected flags only", fs.Arg(0))
	}
	switch webhooks {
	case "enabled", "disabled":
		o.allocate = true
	case "onlywebhook":
		o.warnings = append(o.warnings, "--webhook-mode=onlywebhook leaves nothing to do")
	default:
		return o, fmt.Errorf("--webhook-mode %q: expected enabled, disabled or onlywebhook", webhooks)
	}
	if o.secret != "" && o.deployment == "" {
		return o, fmt.Errorf("--ml-secret-name %q needs --deployment, the owner of the Secret", o.secret)
	}
	for _, name := range given() {
		o.warnings = append(o.warnings, "--"+name+" has no effect")
	}
	return o, o.process.Validate()
}
