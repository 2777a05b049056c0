"""What a flow looks like: image sheets by Pillow, figures by matplotlib, one style."""
