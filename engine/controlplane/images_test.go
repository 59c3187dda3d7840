package controlplane_test

import (
	"net/http"
	"strings"
	"testing"
)

// What is no pull by digest has an answer in the registry's own form, which says what is wrong.
func TestRegistryAnswers(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	client := h.client(t, "cells", h.signers["acme"])
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, test := range []struct {
		method, path, code string
		status             int
	}{
		{"GET", "/v2/", "", http.StatusOK},
		{"GET", "/v2/app/manifests/latest", "MANIFEST_UNKNOWN", http.StatusNotFound},
		{"GET", "/v2/app/manifests/sha512:" + strings.Repeat("a", 128), "DIGEST_INVALID", http.StatusBadRequest},
		{"GET", "/v2/app/blobs/sha256:abc", "DIGEST_INVALID", http.StatusBadRequest},
		{"GET", "/v2/app/blobs/" + digest, "BLOB_UNKNOWN", http.StatusNotFound},
		{"GET", "/v2/app/manifests/" + digest, "MANIFEST_UNKNOWN", http.StatusNotFound},
		{"GET", "/v2/app/tags/list", "UNSUPPORTED", http.StatusNotFound},
		{"GET", "/v2/_catalog", "NAME_UNKNOWN", http.StatusNotFound},
		{"GET", "/v2/app/referrers/" + digest, "", http.StatusOK},
		{"PUT", "/v2/app/manifests/latest", "", http.StatusMethodNotAllowed},
	} {
		w, text := h.request(t, client, "cells", test.method, test.path, "")
		if w.StatusCode != test.status || test.code != "" && !strings.Contains(text, `{"errors":[{"code":"`+test.code+`"`) {
			t.Errorf("%s %s: %s %s", test.method, test.path, w.Status, text)
		}
	}
}
