// Package render renders the manifests of a release for one cell, with its profile and its values, by kustomize. A
// child process (Main) does the work: it limits itself, has no network and no environment, and is trusted as little as
// the release is. A Renderer starts the child, bounds its time, memory and output, and caches the output on disk under
// everything that it depends on. The package applies nothing and knows no target: its result is a cells.Rendered, files
// by name.
//
// Another format than kustomize would be another path from files to bodies in request.render, behind the same scan.
// Whatever changes the result of rendering must change renderFormat.
//
// A Renderer is used by one goroutine at a time.
package render
