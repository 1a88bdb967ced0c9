package service

import discoveryv1 "k8s.io/api/discovery/v1"

// MergeEndpoints counts the endpoints of all slices of one Service that can
// serve, whatever their family and ports.
func MergeEndpoints(slices []*discoveryv1.EndpointSlice) Endpoints {
	var merged Endpoints
	for _, slice := range slices {
		for i := range slice.Endpoints {
			ep := &slice.Endpoints[i]
			if !canServe(ep.Conditions) {
				continue
			}
			merged.Any = true
			if ep.NodeName == nil || *ep.NodeName == "" {
				continue
			}
			if merged.Nodes == nil {
				merged.Nodes = make(map[string]int)
			}
			merged.Nodes[*ep.NodeName]++
		}
	}
	return merged
}

// canServe is true for an endpoint that is ready (unknown counts as ready), and
// for one that is not ready any more but still serves: a pod that terminates.
func canServe(c discoveryv1.EndpointConditions) bool {
	if c.Ready == nil || *c.Ready {
		return true
	}
	return c.Serving != nil && *c.Serving
}
