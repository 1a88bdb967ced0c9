package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/e2etest/lab/agent/sandbox"
)

// describe turns the container into what the sandbox runs.
func (c *container) describe(spec *corev1.Container) (*sandbox.Spec, Image, error) {
	img, err := c.w.a.images.find(spec.Image)
	if err != nil {
		return nil, img, &waitError{"ErrImagePull", err}
	}
	pod, facts := c.w.latest(), c.w.facts()
	id, err := identityOf(pod, spec, img.User)
	if err != nil {
		return nil, img, &waitError{"CreateContainerConfigError", err}
	}
	services, err := c.w.a.services(c.w.ctx, pod)
	if err != nil {
		return nil, img, &waitError{"CreateContainerConfigError", err}
	}
	env, err := containerEnv(facts, spec, imageEnv(img, id.UID), services, c.w.objs)
	if err != nil {
		return nil, img, &waitError{"CreateContainerConfigError", err}
	}
	rootfs := filepath.Join(c.w.dir, "rootfs", spec.Name)
	if err := os.MkdirAll(rootfs, 0o755); err != nil {
		return nil, img, &waitError{"CreateContainerError", err}
	}
	s := &sandbox.Spec{
		Rootfs: rootfs, HostPID: pod.Spec.HostPID, ReadOnlyRoot: readOnlyRoot(spec), Privileged: privileged(spec),
		Identity: id, Argv: command(spec, img, env), Env: env.list(), Cwd: orElse(spec.WorkingDir, img.WorkingDir),
		Files: c.w.a.etcFiles(pod, facts),
	}
	if !pod.Spec.HostNetwork {
		s.Hostname = facts.hostname()
	}
	if img.Tmp {
		s.Dirs = append(s.Dirs, sandbox.Dir{Path: "/tmp", Mode: 0o777 | os.ModeSticky})
	}
	for inside, host := range img.Files {
		s.Mounts = append(s.Mounts, sandbox.Mount{Source: host, Target: inside, ReadOnly: true})
	}
	mounts, err := c.volumeMounts(pod, spec, env)
	if err != nil {
		return nil, img, &waitError{"CreateContainerConfigError", err}
	}
	s.Mounts = append(s.Mounts, mounts...)
	return s, img, nil
}

// command is the container's, else the image's; the arguments follow either.
func command(c *corev1.Container, img Image, env *variables) []string {
	argv := append([]string(nil), img.Entrypoint...)
	if len(c.Command) > 0 {
		argv = argv[:0]
		for _, w := range c.Command {
			argv = append(argv, expand(w, env.lookup))
		}
	}
	for _, w := range c.Args {
		argv = append(argv, expand(w, env.lookup))
	}
	return argv
}

// imageEnv is the image's environment with what a runtime always adds.
func imageEnv(img Image, uid uint32) []string {
	home := "HOME=/"
	if uid == 0 {
		home = "HOME=/root"
	}
	return append([]string{defaultPath, home}, img.Env...)
}

// volumeMounts finds the host path of every mount. A subPath is resolved once,
// so what it shows is not refreshed, as with a kubelet.
func (c *container) volumeMounts(pod *corev1.Pod, spec *corev1.Container, env *variables) ([]sandbox.Mount, error) {
	var out []sandbox.Mount
	for _, m := range spec.VolumeMounts {
		var vol *corev1.Volume
		for i := range pod.Spec.Volumes {
			if pod.Spec.Volumes[i].Name == m.Name {
				vol = &pod.Spec.Volumes[i]
			}
		}
		if vol == nil {
			return nil, fmt.Errorf("volumeMount %s: the pod has no volume of this name", m.Name)
		}
		source := c.w.volumes.path(vol)
		sub := orElse(expand(m.SubPathExpr, env.lookup), m.SubPath)
		if sub != "" {
			var err error
			if source, err = subPath(source, sub); err != nil {
				return nil, fmt.Errorf("volumeMount %s: %w", m.Name, err)
			}
		}
		apiVolume := vol.Secret != nil || vol.ConfigMap != nil || vol.Projected != nil || vol.DownwardAPI != nil
		out = append(out, sandbox.Mount{Source: source, Target: m.MountPath, ReadOnly: m.ReadOnly || apiVolume})
	}
	return out, nil
}

// subPath is a path inside a volume; it may not lead out of it.
func subPath(volume, sub string) (string, error) {
	path := filepath.Join(volume, filepath.Clean("/"+sub))
	real, err := filepath.EvalSymlinks(path)
	if os.IsNotExist(err) {
		return path, os.MkdirAll(path, 0o777)
	}
	if err != nil {
		return "", err
	}
	if base, err := filepath.EvalSymlinks(volume); err != nil || (real != base && !strings.HasPrefix(real, base+"/")) {
		return "", fmt.Errorf("subPath %s leads out of the volume", sub)
	}
	return real, nil
}

// etcFiles are the files that a runtime and a kubelet put into every container.
func (a *Agent) etcFiles(pod *corev1.Pod, facts podFacts) []sandbox.File {
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	for _, ip := range facts.podIPs {
		fmt.Fprintf(&hosts, "%s %s\n", ip, facts.hostname())
	}
	for _, alias := range pod.Spec.HostAliases {
		fmt.Fprintf(&hosts, "%s %s\n", alias.IP, strings.Join(alias.Hostnames, " "))
	}
	file := func(path, content string) sandbox.File {
		return sandbox.File{Path: path, Content: content, Mode: 0o644}
	}
	return []sandbox.File{
		file("/etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"),
		file("/etc/group", "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n"),
		file("/etc/hostname", facts.hostname()+"\n"),
		file("/etc/hosts", hosts.String()),
		file("/etc/resolv.conf", a.resolvConf(pod)),
	}
}

func (a *Agent) resolvConf(pod *corev1.Pod) string {
	var out strings.Builder
	for _, s := range a.cfg.ClusterDNS {
		fmt.Fprintf(&out, "nameserver %s\n", s)
	}
	fmt.Fprintf(&out, "search %s.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n", pod.Namespace)
	return out.String()
}
