// Package install makes what puts a cell's agent where it runs: a script for a machine, a manifest for a cluster, and
// for an AWS account the templates of an infrastructure update with a page for whoever executes them.
//
// It is pure: texts from values, whose inputs a verb has checked. A text may hold a cell's token, so whoever writes it
// to disk lets its owner alone read it. Everything may be called at once.
package install

import (
	_ "embed"
	"fmt"
	"strings"
	"text/template"

	"github.com/sluice-cd/sluice/cells/node"
)

//go:embed agent.yaml
var agentManifest string

// Agent is what the manifest of an agent in a cluster is made of.
type Agent struct {
	Image, Namespace string
	For              []string // namespaces that releases go into
	ClusterAdmin     bool
	Node             bool     // with the part on each node
	Images           []string // registries whose images nodes pull through the agent
	Exports          bool     // node parts pass on to the agent what programs measure
	SelfUpdate       bool     // releases may replace the agent, and a guard watches
	Logs             bool     // debug sessions that the owner permits may read logs of pods
	Shells           bool     // debug sessions that the owner permits may be shells in pods

	MakeNamespaces bool     // with the namespaces of For
	Token          string   // that the agent registers with; empty: somebody makes the Secret
	Server         string   // https://HOST:PORT in place of the token's address; empty: the token's
	Infrastructure string   // of the agent's flag; empty: none
	Quotas         []string // of AWS that the infrastructure needs, SERVICE/CODE=LEAST
	Region         string   // of AWS; empty: none
}

// nodeConfigMap is the ConfigMap through which the agent and the node parts meet.
const nodeConfigMap = "sluice-node"

// JoinSecret names the Secret with the token, in the agent's namespace.
const JoinSecret = "sluice-join"

// NodeConfigMap returns the name of the ConfigMap through which the agent and the node parts meet.
func (i Agent) NodeConfigMap() string { return nodeConfigMap }

// MaintenanceConfigMap returns the name of the one with maintenances.
func (i Agent) MaintenanceConfigMap() string { return node.MaintenanceName(nodeConfigMap) }

// NodeNamespace returns the namespace of the node parts, and of what they and the agent meet by. It is another than the
// agent's: node parts may write Leases in it, and need privileges that the agent does not.
func (i Agent) NodeNamespace() string { return i.Namespace + "-node" }

// JoinSecret returns the name of the Secret with the token.
func (i Agent) JoinSecret() string { return JoinSecret }

// BundleConfigMaps returns the names of the ConfigMaps with the bundle's parts.
func (i Agent) BundleConfigMaps() string {
	var names []string
	for n := range node.MaxParts {
		names = append(names, node.PartName(nodeConfigMap, n+1))
	}
	return strings.Join(names, ", ")
}

// Door reports whether node parts reach the agent.
func (i Agent) Door() bool { return len(i.Images) > 0 || i.Exports }

// ImagesSecret returns the name of the Secret by which node parts reach the agent.
func (i Agent) ImagesSecret() string { return node.ImagesName(nodeConfigMap) }

// Default returns the namespace of objects that name none.
func (i Agent) Default() string {
	if len(i.For) > 0 {
		return i.For[0]
	}
	return i.Namespace
}

// Manifest returns plain YAML for kubectl apply.
func (i Agent) Manifest() (string, error) {
	return execute("agent", agentManifest, nil, i)
}

func execute(name, text string, functions template.FuncMap, data any) (string, error) {
	t, err := template.New(name).Funcs(functions).Parse(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return b.String(), nil
}
