"""From a plan to results: stages, the executor that runs them in threads, the driver that writes everything down."""
