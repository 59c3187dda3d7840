// Package agenttest has what tests of the agent and its packages share: releases, and orders about flags. Only tests
// import it. It keeps no state, so its functions may be called at once.
package agenttest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/releases"
)

// Release returns the files of a release of one ConfigMap that takes a value.
func Release(version string, extra map[string]string) map[string]string {
	files := map[string]string{
		"release.yaml": "apiVersion: sluice/v1\nkind: Release\nversion: " + version + "\nparameters:\n" +
			"  colour: {type: string, default: red, enum: [red, green]}\n  replicas: {type: integer, default: 2}\n" +
			"  secret: {type: string, owner: cell, default: none}\nprofiles: {default: ., small: overlays/small}\n",
		"kustomization.yaml": "resources: [base]\n",
		"base/kustomization.yaml": "resources: [app.yaml, sluice-values.yaml]\nreplacements:\n" +
			"- source: {kind: ConfigMap, name: sluice-values, fieldPath: data.colour}\n" +
			"  targets: [{select: {kind: ConfigMap, name: app}, fieldPaths: [data.colour]}]\n" +
			"- source: {kind: ConfigMap, name: sluice-values, fieldPath: data.secret}\n" +
			"  targets: [{select: {kind: ConfigMap, name: app}, fieldPaths: [data.secret]}]\n" +
			"- source: {kind: ConfigMap, name: sluice-values, fieldPath: data.replicas}\n" +
			"  targets: [{select: {kind: Deployment}, fieldPaths: [spec.replicas]}]\n",
		"base/sluice-values.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: sluice-values\n" +
			"  annotations: {config.kubernetes.io/local-config: \"true\"}\n" +
			"data: {colour: red, replicas: \"2\", secret: none}\n",
		"base/app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app, namespace: shop}\ndata: {version: \"" +
			version + "\", colour: unset, secret: unset}\n" +
			"---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app, namespace: shop}\nspec: {replicas: 1}\n",
		"overlays/small/kustomization.yaml": "resources: [../../base]\nnamePrefix: small-\n",
	}
	for name, content := range extra {
		files[name] = content
	}
	return files
}

// ReleaseWithFeatures returns the files of a release that contains features.
func ReleaseWithFeatures(version string, features ...string) map[string]string {
	files := Release(version, nil)
	files["release.yaml"] += "features: [" + strings.Join(features, ", ") + "]\n"
	return files
}

// Pack returns the canonical tar of files.
func Pack(t testing.TB, files map[string]string) []byte {
	t.Helper()
	r := releases.Files{}
	for name, content := range files {
		r[name] = releases.File{Data: []byte(content), Mode: 0o644}
	}
	var tar bytes.Buffer
	if err := r.Pack(&tar); err != nil {
		t.Fatal(err)
	}
	return tar.Bytes()
}

// RenderCommand makes a test binary the render child: its TestMain must handle the argument "render". It spares the
// second that the race detector takes to exit.
func RenderCommand(self string) []string {
	return []string{"/usr/bin/env", "GORACE=atexit_sleep_ms=0", self, "render"}
}

// KillOrders returns sealed orders that kill the flags.
func KillOrders(killed ...string) cells.Sealed {
	var o flags.Orders
	for _, k := range killed {
		o.Killed = append(o.Killed, flags.KilledFlag{Flag: k, Reason: "it breaks"})
	}
	payload, _ := json.Marshal(o)
	return cells.Sealed{Payload: payload, Digest: releases.DigestBytes(payload)}
}
