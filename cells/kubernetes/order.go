package kubernetes

import (
	"cmp"
	"slices"
)

// stage is the place of an object in an apply. What others need has a lower one.
type stage int

const (
	stageFoundation    stage = iota // namespaces, definitions, priority and storage classes
	stageCluster                    // other objects that are in no namespace
	stageConfiguration              // what workloads read and run as
	stageBefore                     // hooks before the workloads
	stageWorkload                   // all else
	stageAdmission                  // what takes part in every request: only once its server was applied
	stageAfter                      // hooks after the workloads
)

// stageOf returns an object's stage. namespaced reports whether its kind is in a namespace.
func stageOf(o object, namespaced bool) stage {
	switch o.hook {
	case hookBefore:
		return stageBefore
	case hookAfter:
		return stageAfter
	}
	switch o.Group + "/" + o.Kind {
	case "/Namespace", "apiextensions.k8s.io/CustomResourceDefinition", "scheduling.k8s.io/PriorityClass",
		"storage.k8s.io/StorageClass":
		return stageFoundation
	case "admissionregistration.k8s.io/ValidatingWebhookConfiguration",
		"admissionregistration.k8s.io/MutatingWebhookConfiguration",
		"admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding", "apiregistration.k8s.io/APIService":
		return stageAdmission
	case "/ServiceAccount", "/ConfigMap", "/Secret", "/PersistentVolumeClaim", "/Service", "/ResourceQuota",
		"/LimitRange", "rbac.authorization.k8s.io/Role", "rbac.authorization.k8s.io/RoleBinding",
		"networking.k8s.io/NetworkPolicy":
		return stageConfiguration
	}
	switch {
	case namespaced:
		return stageWorkload
	case builtIn(o.Group):
		return stageCluster
	default: // its definition may be in the release
		return stageWorkload
	}
}

// builtIn reports whether an API group is Kubernetes' own: its objects need no definition.
func builtIn(group string) bool {
	switch group {
	case "", "apps", "batch", "autoscaling", "policy", "extensions", "rbac.authorization.k8s.io", "networking.k8s.io",
		"storage.k8s.io", "scheduling.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io",
		"apiregistration.k8s.io", "coordination.k8s.io", "discovery.k8s.io", "node.k8s.io", "certificates.k8s.io",
		"flowcontrol.apiserver.k8s.io", "events.k8s.io", "resource.k8s.io", "internal.apiserver.k8s.io",
		"storagemigration.k8s.io", "authentication.k8s.io", "authorization.k8s.io":
		return true
	}
	return false
}

// batch is a set of objects that are applied at once.
type batch struct {
	wave    int
	stage   stage
	objects []object
	last    bool // the last batch of its wave but for hooks: health is waited for, if anything follows
}

// batches orders objects. The stages up to the configuration come first, for all waves; the others wave by wave.
func batches(objects []object, namespaced func(object) bool) []batch {
	type place struct {
		wave  int
		stage stage
	}
	groups := map[place][]object{}
	var places []place
	for _, o := range objects {
		p := place{o.wave, stageOf(o, namespaced(o))}
		if p.stage <= stageConfiguration {
			p.wave = -maxWave - 1
		}
		if groups[p] == nil {
			places = append(places, p)
		}
		groups[p] = append(groups[p], o)
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.wave, b.wave), cmp.Compare(a.stage, b.stage))
	})
	var ordered []batch
	for i, p := range places {
		followed := i+1 < len(places)
		ends := followed && p.stage > stageConfiguration && p.stage != stageBefore && p.stage != stageAfter &&
			(places[i+1].wave != p.wave || places[i+1].stage == stageAfter)
		ordered = append(ordered, batch{p.wave, p.stage, groups[p], ends})
	}
	return ordered
}
