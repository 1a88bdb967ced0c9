// Package herald installs the product in a lab as a user installs it: it applies
// config/default with kubectl and waits for the rollouts.
//
// The demo, the end-to-end tests and the benchmarks all start here, so that what
// they show is what a user gets.
package herald

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
)

// Namespace is where Herald lives.
const Namespace = "metallb-system"

// rolloutTimeout bounds the wait for the pods of an installation.
const rolloutTimeout = 60 * time.Second

// Root finds the folder of the product's module, from anywhere inside of it.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the product: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "config", "default", "kustomization.yaml")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("find the product: no config/default above the working directory")
		}
		dir = parent
	}
}

// Install applies config/default and waits until every pod is ready.
func Install(ctx context.Context, c *lab.Cluster) error {
	root, err := Root()
	if err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "apply", "-k", filepath.Join(root, "config", "default")); err != nil {
		return err
	}
	return WaitReady(ctx, c)
}

// WaitReady waits until the controller and every speaker are rolled out.
func WaitReady(ctx context.Context, c *lab.Cluster) error {
	for _, workload := range []string{"deployment/controller", "daemonset/speaker"} {
		if _, err := c.Kubectl(ctx, "-n", Namespace, "rollout", "status", workload,
			"--timeout="+rolloutTimeout.String()); err != nil {
			return err
		}
	}
	return nil
}
