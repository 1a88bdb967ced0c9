// Package sandbox runs one process the way a container runtime would: in a
// mount, pid, ipc and uts namespace of its own, on a root file system made for
// it, with exactly the user, groups and capabilities it was given.
//
// It knows Linux and a [Spec]; it knows nothing of Kubernetes. The agent turns
// a container of a Pod into a Spec, and hands it to a [Spawner]. The spawner
// runs the same executable again under the name [InitName]; main must call
// [MaybeInit] before anything else, so that this second run becomes the
// container's first process instead of the program.
package sandbox
