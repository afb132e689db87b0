// The Go peer of bench_informers.py: client-go's dynamic informer, measured as informer/peer.py measures the others.
//
// Usage: go_informer KUBECONFIG OBJECTS EVENTS
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

var applications = schema.GroupVersionResource{
	Group: "applicationconnector.kyma-project.io", Version: "v1alpha1", Resource: "applications",
}

func main() {
	if err := run(os.Args[1], number(os.Args[2]), number(os.Args[3])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig string, objects, events int64) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	informer := dynamicinformer.NewFilteredDynamicInformer(client, applications, "", 0, cache.Indexers{}, nil).Informer()
	var added, updated atomic.Int64
	synced, caughtUp := make(chan struct{}), make(chan struct{})
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) {
			if added.Add(1) == objects {
				close(synced)
			}
		},
		UpdateFunc: func(any, any) {
			if updated.Add(1) == events {
				close(caughtUp)
			}
		},
	})
	if err != nil {
		return err
	}
	before := residentBytes()
	started, cpu := time.Now(), cpuSeconds()
	go informer.Run(make(chan struct{}))
	<-synced
	figures := map[string]float64{
		"sync_seconds":     time.Since(started).Seconds(),
		"sync_cpu_seconds": cpuSeconds() - cpu,
	}
	figures["held_bytes"] = float64(residentBytes() - before)
	if events > 0 {
		started, cpu = time.Now(), cpuSeconds()
		answer, err := http.Get(config.Host + "/send-events")
		if err != nil {
			return err
		}
		answer.Body.Close()
		<-caughtUp
		figures["event_ms"] = time.Since(started).Seconds() * 1000 / float64(events)
		figures["event_cpu_ms"] = (cpuSeconds() - cpu) * 1000 / float64(events)
	}
	return json.NewEncoder(os.Stdout).Encode(figures)
}

func number(text string) int64 {
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return value
}

// residentBytes is what is left after everything that can be given back was given back.
func residentBytes() int64 {
	runtime.GC()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmRSS:"); found {
			return number(strings.Fields(rest)[0]) * 1024
		}
	}
	panic("no VmRSS in /proc/self/status")
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}
