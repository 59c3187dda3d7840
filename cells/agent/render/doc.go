// Package render makes the manifests of a release for one cell: with its profile and its values, by kustomize. The work is
// done in a child process (Main), which limits itself, has no network and no environment, and is believed as little as the
// release is; a Renderer starts it, bounds it in time, memory and output, and keeps what it made on disk by everything that
// the result depends on. It applies nothing and knows no target: what comes out is a cells.Rendered, files by name.
//
// Other forms of release than kustomize would be another way from files to bodies in request.render, behind the same scan;
// whatever changes what a release comes to must change renderFormat.
//
// A Renderer is used by one goroutine at a time.
package render
