// Command etcd is etcd's own server; it cannot be had by `go install`, since its module has replacements.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
