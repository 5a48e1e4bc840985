#!/bin/sh
# Stands in an image where Istio's has the stock agent: tells its version, and what it was asked for by whom. What it
# says of itself shows whether Ferry hands over to it as it should.
case "$1" in
version) echo 'client version: 1.27.0' ;;
*)
  echo "stock agent, process $$: $*"
  case " $* " in *' --run-validation '*) exit 126 ;; esac
  ;;
esac
