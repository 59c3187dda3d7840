package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
)

// MaintenanceConfigMap is the name of the ConfigMap, in the target's namespace, that says what goes on.
const MaintenanceConfigMap = "sluice-maintenance"

var _ cells.MaintenanceTeller = (*Target)(nil)

// TellMaintenance writes the state into a ConfigMap, which the product's programs may watch and nodes serve. It is no
// object of a release, so nothing heals or removes it.
func (t *Target) TellMaintenance(ctx context.Context, s maintenance.State) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("tell of the maintenance: %w", err)
	}
	data := map[string]any{"phase": string(s.Phase), "state.json": string(text)}
	if !s.Until.IsZero() {
		data["until"] = s.Until.UTC().Format(time.RFC3339)
	}
	m := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": MaintenanceConfigMap, "namespace": t.options.Namespace},
		"data":     data,
	}}
	kind, err := t.cluster.find(ctx, schema.GroupKind{Kind: "ConfigMap"}, "v1")
	if err == nil {
		_, err = t.cluster.apply(ctx, kind, m, true, false)
	}
	if err != nil {
		return fmt.Errorf("tell of the maintenance by the ConfigMap %s/%s: %w", t.options.Namespace,
			MaintenanceConfigMap, err)
	}
	return nil
}

// DecodeMaintenance returns the state in the data of that ConfigMap as it holds at now: what is past its end is over,
// though no agent lives to say so.
func DecodeMaintenance(data map[string]string, now time.Time) (maintenance.State, error) {
	s := maintenance.State{Phase: maintenance.Off}
	if text := data["state.json"]; text != "" {
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return maintenance.State{Phase: maintenance.Off}, fmt.Errorf("read the maintenance in %s: %w",
				MaintenanceConfigMap, err)
		}
	}
	return s.At(now), nil
}
