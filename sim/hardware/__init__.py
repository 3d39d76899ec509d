"""What a step costs on given hardware: rooflines from data sheets and model configs, and fitted profiles."""
