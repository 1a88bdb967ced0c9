package agent

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/e2etest/lab/agent/sandbox"
)

// identityOf resolves who a container runs as: the container's security
// context, then the pod's, then the image's user.
func identityOf(pod *corev1.Pod, c *corev1.Container, imageUser string) (sandbox.Identity, error) {
	ps, cs := pod.Spec.SecurityContext, c.SecurityContext
	if ps == nil {
		ps = &corev1.PodSecurityContext{}
	}
	if cs == nil {
		cs = &corev1.SecurityContext{}
	}
	uid, gid, err := parseUser(imageUser)
	if err != nil {
		return sandbox.Identity{}, err
	}
	if u := first(cs.RunAsUser, ps.RunAsUser); u != nil {
		uid = *u
	}
	if g := first(cs.RunAsGroup, ps.RunAsGroup); g != nil {
		gid = *g
	}
	if nonRoot := first(cs.RunAsNonRoot, ps.RunAsNonRoot); nonRoot != nil && *nonRoot && uid == 0 {
		return sandbox.Identity{}, fmt.Errorf("container has runAsNonRoot and would run as root: set runAsUser, or a user in the image")
	}
	id := sandbox.Identity{UID: uint32(uid), GID: uint32(gid), Caps: sandbox.DefaultCaps}
	groups := slices.Clone(ps.SupplementalGroups)
	if ps.FSGroup != nil {
		groups = append(groups, *ps.FSGroup)
	}
	for _, g := range append([]int64{gid}, groups...) {
		if !slices.Contains(id.Groups, uint32(g)) {
			id.Groups = append(id.Groups, uint32(g))
		}
	}
	if caps := cs.Capabilities; caps != nil {
		if id.Caps, err = id.Caps.Adjust(names(caps.Add), names(caps.Drop)); err != nil {
			return sandbox.Identity{}, err
		}
	}
	if privileged(c) {
		id.Caps = sandbox.AllCaps
	}
	id.NoNewPrivs = cs.AllowPrivilegeEscalation != nil && !*cs.AllowPrivilegeEscalation
	return id, nil
}

func privileged(c *corev1.Container) bool {
	sc := c.SecurityContext
	return sc != nil && sc.Privileged != nil && *sc.Privileged
}

func readOnlyRoot(c *corev1.Container) bool {
	sc := c.SecurityContext
	return sc != nil && sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem
}

// parseUser reads an image's user, "uid" or "uid:gid"; "" is root.
func parseUser(s string) (uid, gid int64, err error) {
	if s == "" {
		return 0, 0, nil
	}
	u, g, hasGroup := strings.Cut(s, ":")
	if uid, err = strconv.ParseInt(u, 10, 32); err != nil {
		return 0, 0, fmt.Errorf("the image's user %q: expected a number, or two as uid:gid", s)
	}
	if hasGroup {
		if gid, err = strconv.ParseInt(g, 10, 32); err != nil {
			return 0, 0, fmt.Errorf("the image's user %q: expected a number, or two as uid:gid", s)
		}
	}
	return uid, gid, nil
}

func names(caps []corev1.Capability) []string {
	out := make([]string, len(caps))
	for i, c := range caps {
		out[i] = string(c)
	}
	return out
}

func first[T any](ps ...*T) *T {
	for _, p := range ps {
		if p != nil {
			return p
		}
	}
	return nil
}
