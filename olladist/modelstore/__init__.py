"""Models across hosts: what each store holds, what a sync must move, and the moving.

scan      what a store holds                     one round trip, parsed into StoreContents
source    a GGUF or Modelfile on this machine    read into a Recipe
place     which hosts `replicas` means           pure
plan      what must happen for a sync            pure: SyncPlan of steps
transfer  makes the plan true                    changes stores through stage
bring     single blobs, for a model to be made   changes a store through stage
list      what `models ls` shows                 pure
"""
