// Package test renders the chart in every shape that helm/coatcheck/ci has, and
// the manifests in k8s, and checks what Kubernetes would only find out later, or
// never: that every field exists, that pods are restricted, that no pod keeps
// anything, that a drain fits its grace period, that the policies open the paths
// they should and no other, and that the real binaries accept their settings.
//
// The hazards are a rule that nothing can break, so TestRulesBite breaks each; and
// a result of yesterday: go test does not see what helm reads, so run it with -count=1.
package test
