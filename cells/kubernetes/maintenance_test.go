package kubernetes_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/releases"
)

// What the product is told of a maintenance is in a ConfigMap, whoever changed that before; past its end it is over for
// readers, though no agent lives.
func TestMaintenanceIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared.Get(t))
	client, err := dynamic.NewForConfig(w.options.Config)
	must(t, err)
	maps := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(w.namespace)
	read := func(now time.Time) maintenance.State {
		t.Helper()
		m, err := maps.Get(t.Context(), kubernetes.MaintenanceConfigMap, metav1.GetOptions{})
		must(t, err)
		data := map[string]string{}
		for key, value := range m.Object["data"].(map[string]any) {
			data[key] = value.(string)
		}
		s, err := kubernetes.DecodeMaintenance(data, now)
		must(t, err)
		if s.Phase != maintenance.Off && data["until"] != s.Until.UTC().Format(time.RFC3339) {
			t.Errorf("%v", data)
		}
		return s
	}
	now := time.Now()
	draining := maintenance.State{Phase: maintenance.Draining, Refused: []string{"start"}, Begins: now,
		Until: now.Add(10 * time.Minute), Release: "1.1.0", Texts: releases.Texts{"en": {"default": "later"}}}
	must(t, w.target.TellMaintenance(t.Context(), draining))
	if s := read(now); !s.Equal(draining) {
		t.Errorf("%+v", s)
	}
	if s := read(now.Add(10 * time.Minute)); s.Phase != maintenance.Off || s.Refuses("start", now) {
		t.Errorf("past its end: %+v", s)
	}
	m, err := maps.Get(t.Context(), kubernetes.MaintenanceConfigMap, metav1.GetOptions{})
	must(t, err)
	m.Object["data"] = map[string]any{"phase": "off"}
	_, err = maps.Update(t.Context(), m, metav1.UpdateOptions{FieldManager: "somebody"})
	must(t, err)
	must(t, w.target.TellMaintenance(t.Context(), draining))
	if s := read(now); !s.Equal(draining) {
		t.Errorf("after somebody's change: %+v", s)
	}
	must(t, w.target.TellMaintenance(t.Context(), maintenance.State{Phase: maintenance.Off}))
	if s := read(now); s.Phase != maintenance.Off {
		t.Errorf("%+v", s)
	}
	if _, err := kubernetes.DecodeMaintenance(map[string]string{"state.json": "{"}, now); err == nil {
		t.Error("what can't be read is said to be off")
	}
}
